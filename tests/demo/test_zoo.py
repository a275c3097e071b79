"""The bundled models hold what they promise: every figure is computed anew from the stored files."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import merging
from merging.checkpoint.shards import open_checkpoint
from merging.demo import zoo as zoo_module
from merging.demo.scores import score, score_plain
from merging.demo.trials import mean
from merging.demo.zoo import Zoo, find_zoo
from merging.errors import CheckpointError
from merging.methods.declare import find_method

ZOO = find_zoo()
MAXIMUM_BYTES = 15_000_000


@cache
def scores(name: str) -> dict[str, float]:
    return score(open_checkpoint(ZOO.folder / name))


def merged(method: str, **settings: float) -> dict[str, float]:
    names = "".join(f"- model: {path}\n" for path in ZOO.fine_tunes.values())
    values = "".join(f"  {name}: {value}\n" for name, value in settings.items())
    base = "" if find_method(method).needs.base == "unused" else f"base_model: {ZOO.base}\n"
    recipe = f"models:\n{names}{base}merge_method: {method}\n" + (f"parameters:\n{values}" if values else "")
    planned = merging.plan(recipe)
    sink = merging.MemorySink(job.spec for job in planned.jobs)
    merging.merge(recipe, sink)
    return score(merging.MemoryCheckpoint(sink.tensors(), planned.config))


def test_there_are_at_least_five_tasks_and_each_has_its_fine_tune() -> None:
    assert len(ZOO.tasks) >= 5
    assert all((path / "config.json").is_file() for path in ZOO.fine_tunes.values())


@pytest.mark.parametrize("task", ZOO.tasks)
def test_a_fine_tune_is_above_90_at_its_own_task_and_visibly_worse_at_every_other(task: str) -> None:
    own = scores(task)[task]
    assert own > 0.9
    assert all(own - other > 0.2 for name, other in scores(task).items() if name != task)


def test_the_base_is_decent_at_every_task_and_clearly_below_its_fine_tune() -> None:
    for task, share in scores("base").items():
        assert 0.5 < share < scores(task)[task] - 0.15


def test_merging_shows_the_trade_off_of_the_field() -> None:
    own = mean({task: scores(task)[task] for task in ZOO.tasks})
    average = merged("linear")
    assert mean(scores("base")) + 0.03 < mean(average) < own - 0.15
    assert all(average[task] < scores(task)[task] - 0.1 for task in ZOO.tasks)
    assert mean(merged("task_arithmetic", **{"lambda": 0.4})) > mean(average) + 0.03
    assert mean(merged("ties", density=0.2)) > mean(average) + 0.03


def test_fine_tunes_share_everything_but_their_linear_layers_with_the_base() -> None:
    base = open_checkpoint(ZOO.base)
    for path in ZOO.fine_tunes.values():
        tuned = open_checkpoint(path)
        assert list(tuned.specs) == list(base.specs)
        changed = {name for name in base.specs if not torch.equal(tuned.read(name), base.read(name))}
        assert changed
        assert all(".layer." in name and "norm" not in name for name in changed)


@pytest.mark.parametrize("task", ZOO.adapters)
def test_an_adapter_on_the_base_reads_its_own_task_and_no_other(task: str) -> None:
    adapted = score(merging.open_source(f"{ZOO.base}+{ZOO.adapters[task]}"))
    assert adapted[task] > 0.9
    assert all(adapted[task] - share > 0.15 for name, share in adapted.items() if name != task)


def test_two_twins_read_upright_digits_and_their_average_does_not() -> None:
    twins = [open_checkpoint(path) for path in ZOO.twins.values()]
    assert len(twins) == 2
    assert all(score_plain(twin) > 0.95 for twin in twins)
    first, second = twins
    assert list(first.specs.values()) == list(second.specs.values())
    average = {
        name: ((first.read(name).float() + second.read(name).float()) / 2).reshape(spec.shape)
        for name, spec in first.specs.items()
    }
    assert score_plain(merging.MemoryCheckpoint(average, first.config)) < 0.5


def test_every_model_is_sharded_with_an_index_and_all_together_stay_small() -> None:
    folders = [ZOO.base, *ZOO.fine_tunes.values(), *ZOO.twins.values()]
    for folder in folders:
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        shards = set(index["weight_map"].values())
        assert len(shards) >= 2
        assert {path.name for path in folder.glob("*.safetensors")} == shards
    held = [path for path in ZOO.folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in held) < MAXIMUM_BYTES


def test_no_digit_is_in_two_splits() -> None:
    splits = json.loads((ZOO.folder / "splits.json").read_text())
    training, validation, test = (set(splits[part]) for part in ("training", "validation", "test"))
    assert all(not one & other for one, other in pairwise((training, validation, test, training)))
    assert len(training) + len(validation) + len(test) == 1797
    assert all(set(seen) <= training for seen in splits["base_has_seen"].values())
    assert {len(ZOO.digits(part)["plain"].labels) for part in ("test", "validation")} == {len(test), len(validation)}


def test_held_out_images_are_the_digits_that_the_splits_name() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="NOT COMPARED WITH scikit-learn: install the test extra")
    digits = datasets.load_digits()
    splits = json.loads((ZOO.folder / "splits.json").read_text())
    images = torch.tensor(digits.images, dtype=torch.float32) / 16
    for part in ("test", "validation"):
        samples = splits[part]
        held = ZOO.digits(part)
        assert held["plain"].labels.tolist() == digits.target[samples].tolist()
        for task, moved in {
            "plain": images[samples],
            "rotated": images[samples].rot90(1, (1, 2)),
            "mirrored": images[samples].flip(2),
            "upside_down": images[samples].flip(1),
            "wrapped": images[samples].roll((4, 4), (1, 2)),
        }.items():
            assert (held[task].images - moved).abs().max() <= 0.5 / 255 + 1e-6
    shown = {split: {tuple(digits.data[i]) for i in splits[split]} for split in ("training", "validation", "test")}
    assert not shown["training"] & (shown["validation"] | shown["test"])


def test_the_zoo_is_found_inside_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "merging"
    (package / "_zoo").mkdir(parents=True)
    monkeypatch.setattr(zoo_module, "files", lambda _: package)
    with pytest.raises(CheckpointError, match="the bundled models are missing"):
        find_zoo()
    (package / "_zoo" / "tasks.json").write_text(json.dumps({"rotated": "turned by 90 degrees"}))
    assert find_zoo() == Zoo(package / "_zoo")
