"""A run as its user sees it: nothing silent, nothing lost, an interrupted one taken up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from merging.checkpoint.shards import open_checkpoint
from merging.checkpoint.sink import MemorySink
from merging.checkpoint.tensors import MemoryCheckpoint
from merging.engine.events import Sealed, TensorDone
from merging.engine.run import run
from merging.errors import MergingError, OutputError, ResumeError
from merging.planning.plan import Job, Operand, Plan
from tests.engine import plans
from tests.engine.plans import plan_for


@pytest.fixture(autouse=True)
def _methods() -> Iterator[None]:
    with plans.temporary_methods():
        plans.declare_test_methods()
        yield


def test_copies_keep_every_dtype_and_say_where_others_differ(tmp_path: Path) -> None:
    first = {
        "ids": torch.arange(5),
        "mask": torch.tensor([True, False]),
        "f8": torch.tensor([1.0, -2.0]).to(torch.float8_e4m3fn),
        "step": torch.tensor(7, dtype=torch.int32),
    }
    second = {**first, "step": torch.tensor(8, dtype=torch.int32)}
    held = (MemoryCheckpoint(first), MemoryCheckpoint(second))
    jobs = tuple(Job(spec, "copy", (Operand(0, name), Operand(1, name))) for name, spec in held[0].specs.items())
    plan = Plan({}, held, jobs, {}, None)
    for _ in run(plan, tmp_path / "out"):
        pass
    written = open_checkpoint(tmp_path / "out")
    for name, value in first.items():
        assert torch.equal(written.read(name).view(torch.uint8), value.reshape(-1).view(torch.uint8))
    ledger = (tmp_path / "out" / "merging-ledger.jsonl").read_text().splitlines()
    different = [line for line in ledger if '"same": false' in line]
    assert len(different) == 1 and '"step"' in different[0]


def test_entries_that_are_not_finite_are_counted_where_they_come_from_and_where_they_arrive(tmp_path: Path) -> None:
    made = plans.models({"w": (200,), "v": (3,)}, 2)
    broken = {name: made[2].read(name).clone() for name in ("w", "v")}
    broken["w"][5] = float("nan")
    made[2] = MemoryCheckpoint(broken, location="broken")
    plan = plans.plan_of("task_arithmetic", made)
    events = list(run(plan, tmp_path / "out"))
    assert {e.name: e.non_finite for e in events if isinstance(e, TensorDone)} == {"w": 1, "v": 0}
    assert '"non_finite": 1' in (tmp_path / "out" / "merging-ledger.jsonl").read_text()


def test_overflow_in_the_last_rounding_is_counted() -> None:
    made = [MemoryCheckpoint({"w": torch.full((4,), 6e4).half()}, location=f"m{i}") for i in range(2)]
    plan = plans.plan_of("linear", made, weight=1.0, normalize=False)
    events = list(run(plan, MemorySink([job.spec for job in plan.jobs]), allow_unused=True))
    assert [e.non_finite for e in events if isinstance(e, TensorDone)] == [4]


@pytest.mark.parametrize(
    ("weight", "same", "words"),
    [
        ((1.0, 0.0), False, "contributed nothing to any tensor: its weight is 0"),
        ((1.0, 1.0), True, "it does not differ from the model it is measured against"),
    ],
)
def test_an_input_without_effect_is_refused(weight: tuple[float, ...], same: bool, words: str, tmp_path: Path) -> None:
    made = plans.models({"w": (50, 4)}, 2)
    if same:
        made[2] = MemoryCheckpoint({"w": made[0].read("w").reshape(50, 4)}, location="twin of base")
    plan = plans.plan_of("task_arithmetic", made, weight=weight)
    with pytest.raises(MergingError, match=words):
        list(run(plan, tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*.safetensors"))
    assert isinstance(list(run(plan, tmp_path / "out", allow_unused=True))[-1], Sealed)


def test_an_output_that_is_one_of_the_inputs_is_refused(tmp_path: Path) -> None:
    made = plans.models({"w": (50, 4)}, 1)
    plan = plans.plan_of("slerp", made, t=1.0)
    with pytest.raises(MergingError, match="equals its input tuned0 in every tensor"):
        list(run(plan, tmp_path / "out"))


def test_a_folder_with_anything_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match="is not empty"):
        list(run(plan_for("linear"), tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_overwriting_replaces_an_earlier_merge_and_nothing_else(tmp_path: Path) -> None:
    many = replace(plan_for("linear"), shard_bytes=3000)
    list(run(many, tmp_path))
    (tmp_path / "mine.txt").write_text("precious")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    list(run(plan_for("ties"), tmp_path, overwrite=True))
    assert [path.name for path in tmp_path.glob("*.safetensors*")] == ["model.safetensors"]
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_an_unfinished_merge_of_another_recipe_is_not_touched(tmp_path: Path) -> None:
    events = run(plan_for("linear"), tmp_path)
    next(events)
    events.close()  # type: ignore[attr-defined]
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(ResumeError, match="another recipe"):
        list(run(plan_for("ties"), tmp_path))
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_two_runs_cannot_fill_one_folder(tmp_path: Path) -> None:
    first = run(plan_for("linear"), tmp_path)
    next(first)
    with pytest.raises(OutputError, match="another run is writing"):
        list(run(plan_for("linear"), tmp_path))
    assert isinstance(list(first)[-1], Sealed)


def test_a_resumed_run_trusts_bytes_not_the_journal(tmp_path: Path) -> None:
    plan = plan_for("ties")
    events = run(plan, tmp_path / "out")
    for event in events:
        if isinstance(event, TensorDone):
            break
    events.close()  # type: ignore[attr-defined]
    for path in (tmp_path / "out").glob("*.partial"):
        held = bytearray(path.read_bytes())
        held[-64:] = bytes(64)
        path.write_bytes(held)
    list(run(plan, tmp_path / "out"))
    list(run(plan, tmp_path / "fresh"))
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        tmp_path / "fresh" / "model.safetensors"
    ).read_bytes()


def test_an_error_in_one_tensor_stops_the_run_and_names_the_cause(tmp_path: Path) -> None:
    plan = plan_for("linear")
    plan.models[1]._tensors.pop("scale")  # type: ignore[attr-defined]
    with pytest.raises(KeyError, match="scale"):
        list(run(plan, tmp_path / "out"))


def test_shard_size_changes_files_and_no_tensor(tmp_path: Path) -> None:
    plan = plan_for("breadcrumbs")
    list(run(plan, tmp_path / "one"))
    list(run(replace(plan, shard_bytes=3000), tmp_path / "many"))
    one, many = open_checkpoint(tmp_path / "one"), open_checkpoint(tmp_path / "many")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    for name in one.specs:
        assert torch.equal(one.read(name), many.read(name))


def test_silent_refusals_name_every_model_at_once() -> None:
    made = plans.models({"w": (8, 8)}, 3)
    plan = plans.plan_of("task_arithmetic", made, weight=(1.0, 0.0, 0.0))
    with pytest.raises(MergingError) as caught:
        list(run(plan, MemorySink([job.spec for job in plan.jobs])))
    assert "tuned1" in str(caught.value) and "tuned2" in str(caught.value)
    assert len(caught.value.problems) == 3  # type: ignore[attr-defined]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an accelerator")
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no cuda here"):
        list(run(replace(plan_for("linear"), device="cuda"), tmp_path / "out"))
    assert not (tmp_path / "out").exists()
