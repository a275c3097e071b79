"""Tasks read back from a store: the models that the merge would have made, wherever a source stands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merging.analysis.diagnose import diagnose
from merging.engine.merge import merge
from merging.errors import CheckpointError, MergingError
from merging.methods.declare import all_methods
from merging.recipe.source import open_source
from merging.store.tasks import TaskStore
from tests import tiny
from tests.store.stores import Kept, bits, kept_of

KEEPING = [name for name, method in all_methods().items() if method.needs.keeps]


@pytest.fixture(scope="module", params=KEEPING)
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A store of every method that keeps tasks, of all dtypes that there are."""
    return kept_of(tmp_path_factory.mktemp("kept"), request.param, shards=2)


@pytest.mark.parametrize("task", [1, 2, 3])
def test_a_task_is_the_merge_of_the_same_recipe_bit_for_bit(kept: Kept, task: int) -> None:
    merged, restored = kept.merged(task), kept.restored(task)
    assert merged.specs == restored.specs
    assert merged.config == restored.config
    assert set(merged.sidecars()) == set(restored.sidecars())
    for name in merged.specs:
        assert torch.equal(bits(merged.read(name)), bits(restored.read(name))), name


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("method", KEEPING)
def test_models_in_bfloat16_come_back_bit_for_bit_from_a_float32_vector(kind: str, method: str, tmp_path: Path) -> None:
    kept = kept_of(tmp_path, method, kind=kind, dtype=None, models=2)
    merged, restored = kept.merged(2), kept.restored(2)
    assert all(torch.equal(bits(merged.read(name)), bits(restored.read(name))) for name in merged.specs)


@pytest.mark.parametrize("method", KEEPING)
def test_a_vector_in_bfloat16_costs_a_task_one_more_rounding(method: str, tmp_path: Path) -> None:
    kept = kept_of(tmp_path, method, dtype="bfloat16", kind="llama")
    base = open_source(str(tmp_path / "base"))
    for task in (1, 2, 3):
        merged, restored = kept.merged(task), kept.restored(task)
        for name in merged.specs:
            x, y, anchor = (model.read(name).double() for model in (merged, restored, base))
            # Half a step of bfloat16 for the change, and half a step of each sum.
            rounding = 2**-8 * ((x - anchor).abs() + x.abs() + y.abs()) + 1e-30
            assert bool(((x - y).abs() <= rounding).all()), name


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_range_of_entries_reads_as_the_whole(kept: Kept, data: st.DataObject) -> None:
    restored = kept.restored(2)
    name = data.draw(st.sampled_from(sorted(restored.specs)))
    length = restored.specs[name].length
    start = data.draw(st.integers(0, length))
    stop = data.draw(st.integers(start, length))
    assert torch.equal(bits(restored.read(name, start, stop)), bits(restored.read(name)[start:stop]))


def test_entries_that_are_not_there_are_refused(kept: Kept) -> None:
    restored = kept.restored(1)
    with pytest.raises(IndexError, match="is not among them"):
        restored.read("a.f32", 0, 10**6)
    with pytest.raises(CheckpointError, match="there is no tensor") as caught:
        restored.read("a.f33")
    assert "a.f32" in str(caught.value)


def test_a_task_has_the_name_of_its_model_or_its_number(kept: Kept) -> None:
    store = TaskStore(kept.folder)
    assert store.tasks == ("tuned-1", "tuned-2", "tuned-3") == kept.result.tasks
    assert [store.number(each) for each in ("tuned-2", 2, "2")] == [2, 2, 2]
    assert kept.restored("tuned-2").fingerprint == kept.restored(2).fingerprint != kept.restored(3).fingerprint
    assert kept.result.sources[1] == f"store:{kept.folder}#tuned-2"


@pytest.mark.parametrize("task", ["", "0", "4", "tuned-9", "-1", "1.0", "²"])
def test_an_unknown_task_is_told_which_there_are(kept: Kept, task: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_source(f"store:{kept.folder}#{task}", where="r.yaml line 3")
    assert "tuned-1 (1), tuned-2 (2), tuned-3 (3)" in str(caught.value)
    assert caught.value.where == "r.yaml line 3"
    assert f"store:{kept.folder}#tuned-" in str(caught.value.fix)


def test_a_task_is_an_input_like_any_model(kept: Kept, tmp_path: Path) -> None:
    source = f"store:{kept.folder}#tuned-1"
    merge(f"merge_method: passthrough\nmodels:\n- model: '{source}'\n", tmp_path / "written")
    written, restored = open_source(str(tmp_path / "written")), open_source(source)
    assert all(torch.equal(bits(written.read(name)), bits(restored.read(name))) for name in restored.specs)
    base = str(kept.folder.parent / "base")
    seen = diagnose([source, str(kept.folder.parent / "tuned-1")], base, cache=False)
    assert seen.models == (source, str(kept.folder.parent / "tuned-1"))


def test_another_base_is_refused(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, kind="llama", models=2)
    shutil.rmtree(tmp_path / "base")
    tensors, config = tiny.llama(seed=5)
    tiny.write(tmp_path / "base", tensors, config)
    with pytest.raises(CheckpointError, match="is not the base model that the store was made from") as caught:
        kept.restored(1)
    assert "fingerprint" in str(caught.value.must_be)


def test_a_base_that_is_gone_is_named(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, kind="llama", models=2)
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match="is not found: there is no file or folder") as caught:
        kept.restored(1)
    assert "store.json" in str(caught.value.fix)
    kept.edit(lambda data: data["base"].update(source="../moved"))
    assert kept.restored(1).specs


def test_store_and_base_may_move_together(tmp_path: Path) -> None:
    kept = kept_of(tmp_path / "here", kind="llama", models=2)
    before = kept.restored(1).fingerprint
    (tmp_path / "here").rename(tmp_path / "there")
    assert open_source(f"store:{tmp_path / 'there' / 'store'}#1").fingerprint == before


def test_a_base_in_memory_is_given_by_hand(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, kind="llama", models=2)
    base = open_source(str(tmp_path / "base"))
    assert TaskStore(kept.folder).open("tuned-1", base).fingerprint == kept.restored(1).fingerprint


def test_the_folder_itself_is_no_model(kept: Kept) -> None:
    with pytest.raises(MergingError, match="is a store of 3 tasks, and no model by itself") as caught:
        open_source(str(kept.folder))
    assert f"store:{kept.folder}#tuned-3" in str(caught.value)
