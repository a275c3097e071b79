"""Merges at the points of a grid, their scores, and what is best among them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from merging.checkpoint.tensors import Checkpoint, MemoryCheckpoint
from merging.demo.scores import score
from merging.demo.zoo import find_zoo
from merging.errors import MergingError
from merging.recipe.recipe import ModelEntry, Recipe
from merging.sweep.sweep import Point, best, pareto, point_from, sweep, tidy

BASE = torch.tensor([1.0, 2.0, 3.0])
MODELS = {
    "base": MemoryCheckpoint({"w": BASE}),
    "a": MemoryCheckpoint({"w": BASE + torch.tensor([1.0, 0.0, 0.0])}),
    "b": MemoryCheckpoint({"w": BASE + torch.tensor([0.0, 2.0, 0.0])}),
}
RECIPE = Recipe("task_arithmetic", (ModelEntry("a"), ModelEntry("b")), base_model="base")


def entries(merged: Checkpoint) -> dict[str, float]:
    return {f"w{i}": float(x) for i, x in enumerate(merged.read("w"))}


def test_every_point_is_merged_with_its_own_values_and_scored() -> None:
    axes = {"lambda": (0.0, 1.0), "weight.b": (0.5, 1.0)}
    recipe = Recipe("task_arithmetic", (ModelEntry("a", {"weight": ()}), ModelEntry("b")), base_model="base")
    points = list(sweep(recipe, axes, entries, checkpoints=MODELS))
    assert [point.values for point in points] == [
        {"lambda": each, "weight.b": other} for each in (0.0, 1.0) for other in (0.5, 1.0)
    ]
    for point in points:
        scale, weight = float(point.values["lambda"]), float(point.values["weight.b"])
        assert point.scores == pytest.approx({"w0": 1 + scale, "w1": 2 + 2 * scale * weight, "w2": 3.0})
        assert point.error is None and point.seconds > 0


def test_a_point_that_fails_stops_no_other() -> None:
    def moody(merged: Checkpoint) -> Mapping[str, float]:
        value = entries(merged)["w0"]
        if value > 1.6:
            raise ValueError("too good")
        return {"w0": float("nan") if value > 1.4 else value}

    points = list(sweep(RECIPE, {"lambda": (0.1, 0.5, 1.0)}, moody, checkpoints=MODELS))
    assert [bool(point.scores) for point in points] == [True, False, False]
    assert "nan" in str(points[1].error) and "ValueError: too good" in str(points[2].error)
    assert points[1].mean is None and best(points) is points[0]


def test_a_value_out_of_bounds_spoils_its_own_point_and_an_unknown_axis_the_sweep() -> None:
    recipe = Recipe("ties", RECIPE.models, base_model="base")
    points = list(sweep(recipe, {"density": (0.5, 7.0)}, entries, checkpoints=MODELS))
    assert points[0].error is None and "density cannot be 7.0" in str(points[1].error)
    for axes in ({"densty": (0.5,)}, {"weight[5]": (1.0,)}, {"density": (7.0, 8.0)}):
        with pytest.raises(MergingError):
            sweep(recipe, axes, entries, checkpoints=MODELS)


def test_points_that_are_done_are_left_out_and_side_by_side_they_are_the_same() -> None:
    axes = {"lambda": tuple(i / 8 for i in range(8))}
    alone = {point.point: point.scores for point in sweep(RECIPE, axes, entries, checkpoints=MODELS)}
    some = [point.point for point in sweep(RECIPE, axes, entries, checkpoints=MODELS, done=(0, 1, 5))]
    together = {point.point: point.scores for point in sweep(RECIPE, axes, entries, checkpoints=MODELS, at_once=3)}
    assert some == [2, 3, 4, 6, 7]
    assert together == alone


def test_a_merge_on_disk_is_there_while_it_is_scored_and_gone_afterwards(tmp_path: Path) -> None:
    seen = []

    def look(merged: Checkpoint) -> Mapping[str, float]:
        seen.append((Path(merged.location) / "model.safetensors").exists())
        return entries(merged)

    points = list(sweep(RECIPE, {"lambda": (0.5, 1.0)}, look, checkpoints=MODELS, on_disk=tmp_path))
    assert seen == [True, True] and not list(tmp_path.iterdir())
    assert [point.scores["w0"] for point in points] == [1.5, 2.0]


def test_the_bundled_models_are_scored_by_their_digits() -> None:
    zoo = find_zoo()
    models = tuple(ModelEntry(str(zoo.fine_tunes[task])) for task in ("rotated", "mirrored"))
    recipe = Recipe("task_arithmetic", models, base_model=str(zoo.base))
    point = next(sweep(recipe, {"lambda": (0.0,)}, lambda merged: score(merged, "validation")))
    from merging.checkpoint.shards import open_checkpoint

    assert point.scores == score(open_checkpoint(zoo.base), "validation")


scored = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), max_size=12)


@given(scored)
def test_the_front_is_what_no_other_beats(rows: list[tuple[int, int, int]]) -> None:
    points = [Point(i, {}, dict(zip("abc", map(float, row), strict=True))) for i, row in enumerate(rows)]

    def beats(x: tuple[int, ...], y: tuple[int, ...]) -> bool:
        return x != y and all(p >= q for p, q in zip(x, y, strict=True))

    expected = [i for i, row in enumerate(rows) if not any(beats(other, row) for other in rows)]
    assert pareto(points) == pareto(points, ["a", "b", "c"]) == expected
    assert pareto([*points, Point(99, {}, error="failed")]) == expected


def test_a_point_comes_back_from_json_and_nothing_else_does() -> None:
    point = Point(3, {"lambda": 0.5, "rescale": True}, {"math": 0.25}, 1.5)
    assert point_from(json.loads(json.dumps(point.data()))) == point
    failed = Point(4, {"lambda": 1.0}, seconds=0.5, error="no")
    assert point_from(failed.data()) == failed
    for other in ({}, {"point": 1}, {"point": "1", "seconds": 1, "values": {}, "scores": {}}):
        assert point_from(other) is None


def test_a_table_has_a_row_for_every_point_and_no_column_twice() -> None:
    points = [Point(0, {"lambda": 1.0}, {"lambda": 0.5, "math": 1.0}, 2.0), Point(1, {"lambda": 2.0}, error="no")]
    columns, rows = tidy(points)
    assert columns == ["point", "lambda", "lambda score", "math", "mean", "seconds", "error"]
    assert rows == [[0, 1.0, 0.5, 1.0, 0.75, 2.0, None], [1, 2.0, None, None, None, 0.0, "no"]]
    leader = best(points, "math")
    assert leader is points[0] and best([]) is None
