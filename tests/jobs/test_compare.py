"""Two recipes and two merges side by side."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import pytest
import torch

from merging.engine.merge import merge
from merging.engine.verify import record_of
from merging.errors import CheckpointError
from merging.jobs.compare import Difference, compare_ledgers, compare_merges, compare_recipes, recorded_recipe
from tests import tiny
from tests.jobs.places import recipe_of

TIES = recipe_of("base", "a", "b", method="ties")


def test_spelling_order_and_written_out_defaults_make_no_difference() -> None:
    other = (
        "# the same\nparameters: {density: 1.0, lambda: 1}\nmodels:\n- {parameters: {weight: '0.50'}, model: a}\n"
        "- model: b\n  parameters:\n    weight:\n    - value: 0.5\nbase_model: base\nmerge_method: ties\n"
    )
    assert compare_recipes(TIES, other) == []


def test_every_setting_that_differs_is_named_with_both_values() -> None:
    other = recipe_of("base", "b", "c", method="ties", extra="parameters: {lambda: 0.4}\ndtype: bfloat16\n")
    assert compare_recipes(TIES, other) == [
        Difference("parameters.lambda", 1.0, 0.4),
        Difference("models", ["a", "b"], ["b", "c"]),
        Difference("models[a].parameters.weight", 0.5, None),
        Difference("models[c].parameters.weight", None, 0.5),
        Difference("dtype", None, "bfloat16"),
    ]


def test_conditions_are_paired_by_their_filter_and_slices_by_position() -> None:
    condition = "parameters: {density: [{filter: mlp, value: 0.3}, {value: 0.5}]}\n"
    found = compare_recipes(TIES + condition, TIES + condition.replace("0.3", "[0.1, 0.2]"))
    assert found == [Difference("parameters.density[mlp]", 0.3, [0.1, 0.2])]
    stack = "merge_method: passthrough\nslices:\n- sources: [{model: a, layer_range: [0, 4]}]\n"
    assert compare_recipes(stack, stack.replace("4", "5")) == [
        Difference("slices[0].sources[0].layer_range", [0, 4], [0, 5])
    ]


@pytest.fixture(scope="module")
def merges(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("merges")
    family = tiny.family(folder, layers=2, models=1, dtype=torch.bfloat16)
    recipe = recipe_of(family.base, family.tuned[0])
    gentler = recipe.replace("{weight: 0.5}", "{weight: [{filter: mlp, value: 0.25}, {value: 0.5}]}")
    for text, out in ((recipe, folder / "left"), (gentler, folder / "right")):
        merge(text, out)
    return folder / "left", folder / "right"


def test_distances_of_tensors_are_those_of_float64(merges: tuple[Path, Path]) -> None:
    from merging.checkpoint.shards import open_checkpoint

    left, right = (open_checkpoint(path) for path in merges)
    rows = list(compare_merges(*merges))
    assert [row.tensor for row in rows] == list(left.specs)
    for row in rows:
        x, y = left.read(row.tensor).double(), right.read(row.tensor).double()
        assert row.same == ("mlp" not in row.tensor) == torch.equal(x, y)
        assert row.left_norm == pytest.approx(float(x.norm())) and row.right_norm == pytest.approx(float(y.norm()))
        assert row.distance == pytest.approx(float((x - y).norm() / x.norm()))


def test_ledgers_tell_the_same_without_reading_a_tensor(merges: tuple[Path, Path]) -> None:
    left, right = (list(record_of(path)[1].values()) for path in merges)
    rows = compare_ledgers(left, [*right[1:], {"tensor": "new", "merged_norm": 2.0}])
    assert rows[0].note == "only in the left" and rows[-1].note == "only in the right"
    assert not rows[0].same and isnan(rows[-1].left_norm) and rows[-1].right_norm == 2.0
    for row in rows[1:-1]:
        assert row.same == ("mlp" not in row.tensor)
        assert row.note == ("weight" if "mlp" in row.tensor else "")


def test_other_shapes_whole_numbers_and_zeros_have_an_answer(tmp_path: Path) -> None:
    zeros, ids = torch.zeros(3), torch.arange(3)
    left = {"shape": torch.ones(2, 2), "ids": ids, "same": ids, "zero": zeros, "zeros": zeros, "left": zeros}
    right = {"shape": torch.ones(4), "ids": ids + 1, "same": ids, "zero": zeros + 2, "zeros": zeros.half()}
    for folder, tensors in (("left", left), ("right", right)):
        tiny.write(tmp_path / folder, {name: x.clone() for name, x in tensors.items()}, {})
    found = {row.tensor: row for row in compare_merges(tmp_path / "left", tmp_path / "right")}
    assert not found["shape"].same and isnan(found["shape"].distance) and "[2, 2]" in found["shape"].note
    assert (found["ids"].same, found["same"].same) == (False, True)
    assert (found["zero"].distance, found["zeros"].distance) == (float("inf"), 0.0)
    assert not found["zeros"].same and found["zeros"].note == "F32, F16"
    assert found["left"].note == "only in the left"
    with pytest.raises(CheckpointError):
        compare_merges(tmp_path / "left", tmp_path / "nothing")


def test_the_recipe_of_a_merge_is_in_its_record(merges: tuple[Path, Path]) -> None:
    tuned = merges[0].parent / "tuned-1"
    found = compare_recipes(recorded_recipe(merges[0]), recorded_recipe(merges[1]))
    assert found == [Difference(f"models[{tuned}].parameters.weight[mlp]", None, 0.25)]
