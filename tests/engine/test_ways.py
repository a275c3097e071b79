"""Streaming is chosen where it does not hold more of the sources on disk than it saves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

import merging
from merging.checkpoint.layout import lay_out
from merging.checkpoint.tensors import MemoryCheckpoint
from merging.engine.compress import compress
from merging.engine.ways import streams_well, stretch
from merging.planning.plan import Plan
from merging.store.tasks import TaskStore
from tests.engine.plans import models, plan_of

NAMES = [f"layers.{i}.w" for i in range(12)]


def test_a_stretch_is_what_lies_between_what_is_read_and_what_is_not() -> None:
    model = MemoryCheckpoint({name: torch.zeros(10) for name in NAMES})
    assert stretch(model, NAMES) == 40
    assert stretch(model, NAMES[::-1]) == 12 * 40
    assert stretch(model, [NAMES[1], NAMES[0], *NAMES[2:]]) == 2 * 40
    assert stretch(model, ["layers.5.w", "layers.5.w"]) == 40
    assert stretch(model, []) == 0


def plan(fetch: str) -> Plan:
    made = models(dict.fromkeys(NAMES, (10, 10)), 2)
    for model in made:
        model.fetch = fetch  # type: ignore[attr-defined]
    return plan_of("ties", made)


def test_files_that_are_fetched_one_after_another_decide_by_their_order() -> None:
    # Names sort as 0, 1, 10, 11, 2, …: in one file ten layers lie between the second and the third tensor.
    wish = plan("shards")
    one = lay_out([job.spec for job in wish.jobs], 1 << 30)
    assert not streams_well(wish, one, saved_bytes=400)
    assert streams_well(wish, one, saved_bytes=1 << 20)
    many = lay_out([job.spec for job in wish.jobs], 1000)
    assert streams_well(wish, many, saved_bytes=0)


def test_of_a_task_of_a_store_the_files_of_its_base_model_decide(tmp_path: Path) -> None:
    given = dict(zip(("base", "tuned-1", "tuned-2"), models(dict.fromkeys(NAMES, (10, 10)), 2), strict=True))
    recipe = "merge_method: emr\nbase_model: base\nmodels:\n- model: tuned-1\n- model: tuned-2\n"
    compress(recipe, tmp_path / "store", checkpoints=given)
    task = TaskStore(tmp_path / "store").open(1, given["base"])
    wish = merging.plan("merge_method: passthrough\nmodels:\n- model: task\n", checkpoints={"task": task})
    one = lay_out([job.spec for job in wish.jobs], 1 << 30)
    assert streams_well(wish, one, saved_bytes=0)
    given["base"].fetch = "shards"  # type: ignore[attr-defined]
    assert not streams_well(wish, one, saved_bytes=400)
    assert streams_well(wish, one, saved_bytes=1 << 20)


def test_other_ways_of_reading_care_for_no_order() -> None:
    wish = plan("ranges")
    assert streams_well(wish, lay_out([job.spec for job in wish.jobs], 1 << 30), saved_bytes=0)
    assert streams_well(replace(wish, models=()), lay_out([], 1), saved_bytes=0)
