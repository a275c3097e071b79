"""Stores that lie: every field of the record and every stored tensor is checked before an entry is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from merging.engine.store_folder import verify_store
from merging.errors import CheckpointError, MergingError
from merging.recipe.source import open_source
from merging.store.record import task_names
from merging.store.tasks import TaskStore
from tests.store.stores import Kept, kept_of

Edit = Callable[[dict[str, Any]], object]
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A store that is as it should be."""
    return kept_of(tmp_path_factory.mktemp("whole"), models=2)


@pytest.fixture
def kept(whole: Kept, tmp_path: Path) -> Kept:
    """A copy of it, beside its base, to be damaged."""
    shutil.copytree(whole.folder.parent, tmp_path / "all")
    return Kept(whole.recipe, whole.result, tmp_path / "all" / "store")


def tensor(data: dict[str, Any], name: str = "a.f32") -> dict[str, Any]:
    """What the record says of a tensor."""
    return next(each for each in data["tensors"] if each["name"] == name)


def test_an_undamaged_copy_opens(kept: Kept) -> None:
    assert kept.restored(1).read("a.f32").numel()


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda data: data.pop("format"), "the store's format is None"),
        (lambda data: data.update(format=2), "the store's format is 2"),
        (lambda data: data.pop("tasks"), "the tasks are None"),
        (lambda data: data.update(tasks=[]), "the tasks are"),
        (lambda data: data.update(tasks=["a", 3]), "the tasks are"),
        (lambda data: data.update(tasks=["a", "a"]), "two tasks have one name"),
        (lambda data: data.update(tasks=["a", "b", "c"]), "must be 3 finite numbers"),
        (lambda data: data.pop("base"), "the base is None"),
        (lambda data: data["base"].pop("fingerprint"), "must have a source and a fingerprint"),
        (lambda data: data["base"].update(source=7), "must have a source and a fingerprint"),
        (lambda data: data["base"].update(fingerprint="0" * 64), "is not the base model that the store was made from"),
        (lambda data: data["base"].update(source="store:x#1"), "is itself a task of a store"),
        (lambda data: data["base"].update(source="../nothing"), "the base model of the store"),
        (lambda data: data.pop("scales"), "the scales are None"),
        (lambda data: data.update(scales=[]), "its scales are number 0 of 0"),
        (lambda data: data.update(scales=[[1.0]]), "must be 2 finite numbers"),
        (lambda data: data.update(scales=[[1.0, float("nan")]]), "must be 2 finite numbers"),
        (lambda data: data.update(scales=[[1.0, float("inf")]]), "must be 2 finite numbers"),
        (lambda data: data.update(scales=[[1.0, True]]), "must be 2 finite numbers"),
        (lambda data: data.update(scales=[[1.0, 10**400]]), "must be 2 finite numbers"),
        (lambda data: data.update(tensors={}), "the tensors are"),
        (lambda data: data.update(tensors=[]), "the tensors are"),
        (lambda data: data["tensors"].append(7), "it has no name"),
        (lambda data: data["tensors"].append(data["tensors"][0]), "two tensors are called"),
        (lambda data: tensor(data).update(scales=1), "its scales are number 1 of 1"),
        (lambda data: tensor(data).update(scales=-1), "its scales are number -1 of 1"),
        (lambda data: tensor(data).update(scales=None), "its scales are number None of 1"),
        (lambda data: tensor(data).update(scales=[0]), "its scales are number"),
        (lambda data: tensor(data).update(shape=[129, -3]), "its shape is"),
        (lambda data: tensor(data).update(shape=[1 << 62, 9]), "its shape is"),
        (lambda data: tensor(data).update(shape=[129, 4]), "vector.a.f32 is F32 in shape [129, 3]"),
        (lambda data: tensor(data).update(shape=[387]), "vector.a.f32 is F32 in shape [129, 3]"),
        (lambda data: tensor(data).update(dtype="F33"), "its dtype is 'F33'"),
        (lambda data: tensor(data).update(dtype=["F32"]), "its dtype is"),
        (lambda data: tensor(data).update(dtype="I32"), "entries of I32 cannot be changed by a vector"),
        (lambda data: tensor(data).update(way="sideways"), "its way 'sideways'"),
        (lambda data: tensor(data).update(way="copy"), "the store lacks copy.a.f32"),
        (lambda data: tensor(data).update(way="base"), "does not mention vector.a.f32"),
        (lambda data: tensor(data).update(base=5), "its name in the base model is no text"),
        (lambda data: tensor(data).update(base="a.f33"), "the base model has no tensor a.f33"),
        (lambda data: tensor(data).update(base="a.f16"), "a.f16 of the base model is F16 in shape [11, 13]"),
        (lambda data: tensor(data, "counts.i32").update(dtype="I16"), "counts.i32 of the base model is I32"),
        (lambda data: tensor(data, "counts.i32").update(dtype="F32"), "counts.i32 of the base model is I32"),
        (lambda data: tensor(data, "counts.i32").update(name="a\nb", base="counts.i32"), "control character"),
    ],
)
def test_a_record_that_lies_is_refused(edit: Edit, says: str, kept: Kept) -> None:
    kept.edit(edit)
    with pytest.raises(MergingError) as caught:
        kept.restored(1)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '"store"', "[" * 100_000, "\xff\xfe"])
def test_a_record_that_is_no_record_is_refused(text: str, kept: Kept) -> None:
    (kept.folder / "store.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError):
        kept.restored(1)


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("mask-1", lambda held: held.pop("mask.1.a.f32"), "the index maps tensor 'mask.1.a.f32'"),
        ("mask-2", lambda held: held.update({"mask.2.a.f32": held["mask.2.a.f32"][:-1]}), "wants U8 in shape [49]"),
        ("mask-1", lambda held: held.update({"mask.1.a.f32": held["mask.1.a.f32"].char()}), "mask.1.a.f32 is I8"),
        ("mask-1", lambda held: held.update({"mask.3.a.f32": held["mask.1.a.f32"] + 0}), "the index does not mention"),
        ("vector", lambda held: held.update({"vector.a.f32": held["vector.a.f32"].int()}), "vector.a.f32 is I32"),
        ("vector", lambda held: held.update({"vector.a.f32": held["vector.a.f32"][1:]}), "in shape [128, 3]"),
    ],
)
def test_stored_tensors_that_do_not_fit_are_refused(
    file: str, change: Callable[[Tensors], object], says: str, kept: Kept
) -> None:
    path = kept.folder / f"{file}.safetensors"
    held = load_file(path)
    change(held)
    save_file({name: each.contiguous() for name, each in held.items()}, path)
    with pytest.raises(MergingError) as caught:
        kept.restored(int(file[-1]) if file != "vector" else 1)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["vector.safetensors", "mask-1.safetensors", "store.safetensors.index.json"])
def test_a_file_that_is_gone_or_cut_short_is_refused(name: str, kept: Kept) -> None:
    path = kept.folder / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(MergingError):
        kept.restored(1)
    path.unlink()
    with pytest.raises(MergingError):
        kept.restored(1)


def test_a_task_wants_its_own_masks_and_no_others(kept: Kept) -> None:
    before = kept.restored("tuned-2")
    entries, fingerprint = before.read("a.f32"), before.fingerprint
    (kept.folder / "mask-1.safetensors").unlink()
    after = kept.restored("tuned-2")
    assert torch.equal(after.read("a.f32"), entries)
    assert after.fingerprint == fingerprint
    with pytest.raises(CheckpointError, match=r"shards are missing: mask-1\.safetensors"):
        kept.restored("tuned-1")
    with pytest.raises(CheckpointError, match=r"shards are missing: mask-1\.safetensors"):
        verify_store(kept.folder)
    (kept.folder / "vector.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"shards are missing: vector\.safetensors"):
        kept.restored("tuned-2")


def test_what_is_wrong_with_another_tasks_masks_is_found_by_verification(kept: Kept) -> None:
    (kept.folder / "mask-2.safetensors").write_bytes(b"no masks")
    assert kept.restored(1).read("a.f32").numel()
    with pytest.raises(MergingError, match="mask-2"):
        verify_store(kept.folder)


def test_a_link_out_of_the_folder_is_not_followed(kept: Kept, tmp_path: Path) -> None:
    secret = tmp_path / "secret.safetensors"
    (kept.folder / "mask-1.safetensors").rename(secret)
    (kept.folder / "mask-1.safetensors").symlink_to(secret)
    with pytest.raises(CheckpointError, match="leads out of its folder"):
        kept.restored(1)


def test_a_folder_without_a_record_is_no_store(kept: Kept) -> None:
    (kept.folder / "store.json").unlink()
    with pytest.raises(CheckpointError, match="is no store"):
        open_source(f"store:{kept.folder}#1")


def test_bits_beyond_the_last_entry_change_nothing(kept: Kept) -> None:
    before = kept.restored(1).read("a.f32")
    path = kept.folder / "mask-1.safetensors"
    held = load_file(path)
    held["mask.1.a.f32"][-1] |= 0xF8
    save_file(held, path)
    assert torch.equal(kept.restored(1).read("a.f32"), before)


def test_many_faults_are_told_together(kept: Kept) -> None:
    kept.edit(lambda data: (data.pop("base"), tensor(data).update(way="up"), tensor(data, "a.f16").update(shape=3)))
    with pytest.raises(MergingError) as caught:
        TaskStore(kept.folder)
    assert all(says in str(caught.value) for says in ("the base is None", "its way 'up'", "its shape is 3"))


def test_the_record_is_json_that_others_can_read(kept: Kept) -> None:
    record = json.loads((kept.folder / "store.json").read_text())
    assert record["recipe"]["merge_method"] == "emr"
    assert "parameters" not in record["recipe"]
    assert [each["source"] for each in record["models"]][-1] == record["recipe"]["base_model"]


def test_names_of_tasks_are_unique_and_no_numbers() -> None:
    assert task_names(["m/math/", "ada/code@v1", "b+./lora", "x/math", "runs/3"]) == (
        "math-1",
        "code",
        "lora",
        "math-4",
        "3-5",
    )
    assert task_names(["x/math-2", "y/math", "z/math"]) == ("math-2-1", "math-2", "math-3")
