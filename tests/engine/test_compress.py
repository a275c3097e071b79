"""A store as an output: sizes, refusals, copies and lacks, verification."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from merging.checkpoint.tensors import MemoryCheckpoint
from merging.engine.compress import compress, keep
from merging.engine.events import Sealed
from merging.engine.store_folder import verify_store
from merging.engine.store_plan import plan_store
from merging.errors import (
    MergingError,
    OutputError,
    Problems,
    RecipeError,
    SilentMergeError,
    VerificationError,
)
from merging.methods.declare import all_methods
from merging.recipe.source import open_source
from merging.store.tasks import TaskStore
from tests import tiny
from tests.store.stores import bits, contents, kept_of, recipe_of

KEEPING = [name for name, method in all_methods().items() if method.needs.keeps]


@pytest.mark.parametrize("method", KEEPING)
@pytest.mark.parametrize(("dtype", "width"), [(None, 4), ("float32", 4), ("bfloat16", 2), ("float64", 4)])
def test_a_store_takes_a_vector_and_a_bit_per_entry_and_model(
    method: str, dtype: str | None, width: int, tmp_path: Path
) -> None:
    kept = kept_of(tmp_path, method, dtype, kind="llama", models=5)
    specs = kept.restored(1).specs.values()
    expected = sum(spec.entries * width + 5 * -(-spec.entries // 8) for spec in specs)
    on_disk = sum(path.stat().st_size for path in kept.result.files)
    assert kept.result.nbytes == on_disk
    # Beside the entries there are headers: a line for each tensor and mask.
    assert expected < on_disk < expected + 6 * len(specs) * 160


@pytest.mark.parametrize("options", [{"workers": 1}, {"workers": 3, "block": 100}, {"block": 1}])
def test_the_bytes_depend_neither_on_workers_nor_on_blocks(options: dict[str, int], tmp_path: Path) -> None:
    kept = kept_of(tmp_path, "emr")
    again = plan_store(kept.recipe, out=tmp_path / "again")
    events = list(keep(again, tmp_path / "again", **options))
    assert isinstance(events[-1], Sealed)
    assert contents(tmp_path / "again") == contents(kept.folder)


def test_shards_hold_what_one_file_holds(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, "tall_masks", kind="llama", models=2)
    result = compress(kept.recipe, tmp_path / "shards", shard_bytes=20_000)
    names = [path.name for path in result.files]
    assert [name for name in names if name.startswith("vector-00001-of-")]
    assert [name for name in names if name.startswith("mask-2-00001-of-")] or "mask-2.safetensors" in names
    restored, whole = open_source(f"store:{tmp_path / 'shards'}#2"), kept.restored(2)
    assert all(torch.equal(restored.read(name), whole.read(name)) for name in whole.specs)


def test_a_tensor_that_the_base_lacks_is_kept_as_it_is(tmp_path: Path) -> None:
    family = tiny.family(tmp_path, "llama", models=2)
    tensors = {name: open_source(str(family.tuned[1])).read(name) for name in open_source(str(family.tuned[1])).specs}
    specs = open_source(str(family.tuned[1])).specs
    shaped = {name: tensor.reshape(specs[name].shape) for name, tensor in tensors.items()}
    config = json.loads((family.tuned[1] / "config.json").read_text())
    tiny.write(family.tuned[1], {**shaped, "extra.head": torch.arange(6.0).reshape(2, 3)}, config)
    compress(recipe_of(family, "emr", extra_tensors="copy"), tmp_path / "store")
    for task in (1, 2):
        restored = open_source(f"store:{tmp_path / 'store'}#{task}")
        assert restored.specs["extra.head"].shape == (2, 3)
        assert restored.read("extra.head", 1, 4).tolist() == [1, 2, 3]


def test_a_tensor_that_a_model_lacks_is_the_bases_in_its_task(tmp_path: Path) -> None:
    family = tiny.family(tmp_path, "llama", models=2)
    model = open_source(str(family.tuned[0]))
    name = "model.layers.0.mlp.up_proj.weight"
    shaped = {each: model.read(each).reshape(spec.shape) for each, spec in model.specs.items() if each != name}
    tiny.write(family.tuned[0], shaped, json.loads((family.tuned[0] / "config.json").read_text()))
    with pytest.raises(MergingError, match="tuned-1"):
        compress(recipe_of(family, "tall_masks"), tmp_path / "store")
    assert not (tmp_path / "store").exists()
    compress(recipe_of(family, "tall_masks", missing_tensors="base"), tmp_path / "store")
    restored, base = open_source(f"store:{tmp_path / 'store'}#tuned-1"), open_source(str(family.base))
    assert torch.equal(restored.read(name), base.read(name))


def test_the_choice_of_a_task_in_the_recipe_is_passed_over(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, "emr", kind="llama", models=2)
    compress(kept.recipe + "parameters: {task: 2}\n", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(kept.folder)


def test_a_scale_may_differ_from_tensor_to_tensor(tmp_path: Path) -> None:
    family = tiny.family(tmp_path, "llama", models=2)
    recipe = recipe_of(family, "tall_masks", parameters="{lambda: [{filter: mlp, value: 0.5}, {value: 2}]}")
    compress(recipe, tmp_path / "store")
    assert sorted(TaskStore(tmp_path / "store").record.scales) == [(0.5, 0.5), (2.0, 2.0)]
    half, base = open_source(f"store:{tmp_path / 'store'}#1"), open_source(str(family.base))
    compress(recipe_of(family, "tall_masks"), tmp_path / "plain")
    plain = open_source(f"store:{tmp_path / 'plain'}#1")
    name = "model.layers.0.mlp.up_proj.weight"
    change = (plain.read(name) - base.read(name)) * 0.5
    torch.testing.assert_close(half.read(name) - base.read(name), change, atol=1e-6, rtol=1e-5)


def test_masks_may_have_a_threshold_for_each_task(tmp_path: Path) -> None:
    family = tiny.family(tmp_path, "llama", models=2)
    recipe = recipe_of(family, "tall_masks").replace("tuned-2\n", "tuned-2\n  parameters: {mask_threshold: 1000}\n")
    compress(recipe, tmp_path / "store", allow_unused=True)
    base = open_source(str(family.base))
    tasks = [open_source(f"store:{tmp_path / 'store'}#{task}") for task in (1, 2)]
    changed = [sum(int((task.read(n) != base.read(n)).sum()) for n in base.specs) for task in tasks]
    assert changed[0] > 100 * changed[1]


def test_a_task_that_nothing_is_kept_of_is_refused(tmp_path: Path) -> None:
    family = tiny.family(tmp_path, "llama", models=2)
    shutil.rmtree(family.tuned[1])
    shutil.copytree(family.base, family.tuned[1])
    recipe = recipe_of(family, "emr")
    with pytest.raises(SilentMergeError, match="contributed nothing"):
        compress(recipe, tmp_path / "store")
    assert not (tmp_path / "store" / "store.json").exists()


@pytest.mark.parametrize("method", ["ties", "linear", "consensus", "passthrough"])
def test_a_method_that_keeps_no_tasks_is_refused_with_those_that_do(method: str, tmp_path: Path) -> None:
    family = tiny.family(tmp_path, "llama", models=1)
    with pytest.raises(RecipeError, match=f"{method} makes one model of all tasks") as caught:
        compress(recipe_of(family, method), tmp_path / "store")
    assert str(caught.value.must_be).endswith(", ".join(KEEPING))


def test_all_problems_are_told_before_anything_is_written(tmp_path: Path) -> None:
    family = tiny.family(tmp_path, "llama", models=1)
    out = tmp_path / "occupied"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    recipe = recipe_of(family, "emr") + f"- model: {tmp_path / 'tuned-9'}\n"
    with pytest.raises(Problems) as caught:
        compress(recipe, out)
    told = str(caught.value)
    assert "tuned-9" in told
    assert "occupied is not empty" in told
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_a_finished_store_is_not_replaced_unasked(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, kind="llama", models=2)
    before = contents(kept.folder)
    with pytest.raises(OutputError, match="already holds a store of tuned-1, tuned-2"):
        compress(kept.recipe, kept.folder)
    assert contents(kept.folder) == before


def test_slices_of_several_models_keep_no_tasks(tmp_path: Path) -> None:
    family = tiny.family(tmp_path, "llama", models=2)
    lines = [f"merge_method: tall_masks\nbase_model: {family.base}\nslices:"]
    for layer, tuned in enumerate(family.tuned):
        lines.append(f"- sources:\n  - model: {tuned}\n    layer_range: [{layer}, {layer + 1}]")
        lines.append(f"  - model: {family.base}\n    layer_range: [{layer}, {layer + 1}]")
    with pytest.raises(RecipeError, match="the tasks of the same models for every tensor"):
        compress("\n".join(lines) + "\n", tmp_path / "store")


def test_a_store_on_a_store_is_refused(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, kind="llama", models=2)
    recipe = kept.recipe.replace(f"base_model: {tmp_path / 'base'}", f"base_model: 'store:{kept.folder}#1'")
    with pytest.raises(RecipeError, match="is itself a task of a store"):
        compress(recipe, tmp_path / "second")


def test_models_in_memory_may_be_kept(tmp_path: Path) -> None:
    family = tiny.family(tmp_path, "llama", models=2)
    given = {}
    for place in (family.base, *family.tuned):
        model = open_source(str(place))
        tensors = {name: model.read(name).reshape(spec.shape) for name, spec in model.specs.items()}
        given[place.name] = MemoryCheckpoint(tensors, model.config)
    recipe = "merge_method: emr\nbase_model: base\nmodels:\n- model: tuned-1\n- model: tuned-2\n"
    compress(recipe, tmp_path / "store", checkpoints=given)
    compress(recipe_of(family, "emr"), tmp_path / "other")
    restored = TaskStore(tmp_path / "store").open("tuned-2", given["base"])
    other = open_source(f"store:{tmp_path / 'other'}#tuned-2")
    assert all(torch.equal(bits(restored.read(name)), bits(other.read(name))) for name in other.specs)


def test_a_store_is_verified_by_its_digests(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, "emr")
    assert verify_store(kept.folder) == len(TaskStore(kept.folder).held().specs)
    for name in ("vector.safetensors", "mask-2.safetensors"):
        path = kept.folder / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(VerificationError, match="1 tensors of") as caught:
            verify_store(kept.folder)
        assert str(caught.value.where).startswith(("vector.", "mask.2."))
        path.write_bytes(content)
    (kept.folder / "merging-ledger.jsonl").write_text("{}\n")
    with pytest.raises(VerificationError, match="cannot be read"):
        verify_store(kept.folder)
