"""Behind the Explore page: what the sliders say as recipe and coefficients, where merges stand, what grids found."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("streamlit")

from merging import LiveScorer, MergingError, all_methods, diagnose, find_zoo, read_recipe
from ui.explore import geometry, grid, iso_lines, trail
from ui.explore.blocks import block_item
from ui.explore.controls import on_slider
from ui.explore.scene import Scene, made
from ui.explore.standing import measured, of_sum
from ui.explore.wish import (
    Wish,
    coefficients,
    fitting,
    is_linear,
    recipe_text,
    start_weight,
    takes_weights,
    weight_span,
    wish_from,
    with_values,
)

ZOO = find_zoo()
BASE, MODELS = str(ZOO.base), tuple(str(path) for path in ZOO.fine_tunes.values())
PAGE = str(Path(__file__).parents[2] / "ui" / "views" / "explore.py")


@pytest.fixture(scope="module")
def scene() -> Scene:
    return made(diagnose(MODELS[:3], BASE, cache=False), MODELS[:3])


def wish(method: str = "task_arithmetic", weights: tuple[float, ...] = (0.4, 0.3, 0.2), **fields: Any) -> Wish:
    return Wish(BASE, MODELS[: len(weights)], method, weights, **fields)


def test_the_recipe_says_what_the_sliders_say() -> None:
    recipe = read_recipe(recipe_text(wish(shared=(("lambda", 0.5),))))
    assert recipe.method == "task_arithmetic" and recipe.base_model == BASE
    assert [entry.parameters["weight"][0].value for entry in recipe.models] == [0.4, 0.3, 0.2]
    assert recipe.parameters["lambda"][0].value == 0.5


def test_a_model_without_effect_is_left_out_unless_the_whole_recipe_is_wanted() -> None:
    some = wish(weights=(0.4, 0.0, 0.2))
    assert len(read_recipe(recipe_text(some)).models) == 2
    assert len(read_recipe(recipe_text(some, whole=True)).models) == 3
    assert len(read_recipe(recipe_text(wish(weights=(0.0, 0.0, 0.0)))).models) == 3


def test_a_method_that_weighs_models_against_each_other_keeps_those_of_weight_0() -> None:
    assert len(read_recipe(recipe_text(wish("ties", (0.4, 0.0, 0.2)))).models) == 3


def test_a_pair_that_counts_its_base_model_has_its_first_model_for_one() -> None:
    text = recipe_text(Wish(BASE, MODELS[:2], "slerp", (1.0, 1.0), (("t", 0.5),)))
    assert read_recipe(text).base_model == MODELS[0]


def test_weights_of_blocks_reach_every_tensor_of_the_recipe(scene: Scene) -> None:
    text = recipe_text(wish(lines=("0; mlp=1", "", "")), scene.tensors)
    by_block = {(setting.filter, setting.value) for setting in read_recipe(text).models[0].parameters["weight"]}
    assert {value for _, value in by_block} == {0.4, 0.0} and len(by_block) > 1
    rows = coefficients(wish(lines=("0; mlp=1", "", "")), scene.tensors).rows
    for tensor, row in zip(scene.tensors, rows, strict=True):
        assert row[0] == pytest.approx(0.4 if tensor.role.startswith("mlp") else 0.0) and row[1] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("method", "shared", "expected"),
    [
        ("task_arithmetic", (("lambda", 0.5),), (0.2, 0.15, 0.1)),
        ("task_arithmetic", (("normalize", True),), (4 / 9, 3 / 9, 2 / 9)),
        ("linear", (), (4 / 9, 3 / 9, 2 / 9)),
    ],
)
def test_coefficients_are_those_of_the_methods_own_formula(
    method: str, shared: tuple[tuple[str, Any], ...], expected: tuple[float, ...]
) -> None:
    found = coefficients(wish(method, shared=shared))
    assert found.exact and found.rows[0] == pytest.approx(expected, abs=1e-6)


def test_a_mean_whose_shares_do_not_sum_to_1_is_not_placed_by_formula() -> None:
    assert not coefficients(wish("linear", shared=(("normalize", False),))).exact


def test_a_method_that_is_no_weighted_sum_is_stood_in_for_by_one() -> None:
    found = coefficients(wish("ties", shared=(("lambda", 0.5),)), models=5)
    assert not found.exact and found.rows[0] == pytest.approx((0.2, 0.15, 0.1, 0.0, 0.0))


def test_weights_that_cancel_in_a_mean_are_refused() -> None:
    with pytest.raises(MergingError):
        coefficients(wish("linear", (0.0, 0.0, 0.0)))


def test_sliders_begin_low_where_whole_task_vectors_are_added_and_at_the_default_elsewhere() -> None:
    assert start_weight(all_methods()["task_arithmetic"]) < 0.5
    assert start_weight(all_methods()["ties"]) == 1.0


def test_a_method_is_given_as_many_models_as_it_takes() -> None:
    assert fitting(all_methods()["slerp"], MODELS) == MODELS[:2]
    assert fitting(all_methods()["ties"], MODELS) == MODELS


def test_every_linear_method_is_known_by_its_declaration() -> None:
    linear = {name for name, method in all_methods().items() if is_linear(method)}
    assert {"task_arithmetic", "linear", "wise_ft"} <= linear and not {"ties", "slerp", "opcm"} & linear


def test_a_wish_survives_the_session_as_plain_values() -> None:
    whole = wish(shared=(("lambda", 0.5),), lines=("0,1", "", ""))
    assert wish_from(whole.data()) == whole


def test_a_point_of_a_grid_changes_only_what_its_axes_name() -> None:
    found = with_values(wish(shared=(("lambda", 0.5),)), {"weight[1]": 0.9, "density": 0.2})
    assert found.weights == (0.4, 0.9, 0.2) and dict(found.shared) == {"lambda": 0.5, "density": 0.2}


def test_a_formula_and_a_measurement_place_the_same_merge_alike(scene: Scene) -> None:
    lines = ("0,1", "attention=0.5", "")
    by_formula = of_sum(scene, coefficients(wish(lines=lines), scene.tensors))
    scorer = LiveScorer(ZOO)
    merged = scorer.merge(recipe_text(wish(lines=lines), scene.tensors))
    names = [tensor.name for tensor in scene.tensors]
    by_measure = measured(scene, scorer.products(merged, BASE, scene.sources, names).tolist())
    scorer.close()
    # The merge itself is rounded to bfloat16.
    assert by_measure.norm == pytest.approx(by_formula.norm, rel=2e-2)
    assert by_measure.nearest == pytest.approx(by_formula.nearest, abs=1e-2)
    for a, b in zip(by_formula.layers(scene), by_measure.layers(scene), strict=False):
        assert a.place == b.place and a.cosines == pytest.approx(b.cosines, abs=3e-2)
    assert by_formula.kind == "sum" and by_measure.kind == "measured"


def test_a_weighted_sum_is_its_own_nearest_and_differs_from_none(scene: Scene) -> None:
    found = of_sum(scene, coefficients(wish(), scene.tensors))
    assert found.nearest == pytest.approx((0.4, 0.3, 0.2)) and found.beyond == 0.0
    again = measured(scene, [[*dots, square] for dots, square in zip(found.dots, found.squares, strict=True)])
    assert again.nearest == pytest.approx(found.nearest) and again.beyond == pytest.approx(0.0, abs=1e-4)
    assert again.norm == pytest.approx(found.norm) and again.relative_norm == pytest.approx(found.relative_norm)


def test_a_plane_through_two_models_shows_their_true_distances(scene: Scene) -> None:
    plane = geometry.Plane(scene, (0, 2))
    gram = scene.positions.tasks.sum(0).tolist()
    a, b = plane.place([1.0, 0.0, 0.0]), plane.place([0.0, 0.0, 1.0])
    assert a.off == pytest.approx(0.0, abs=1e-5) and b.off == pytest.approx(0.0, abs=1e-5)
    assert sqrt(a.x**2 + a.y**2) == pytest.approx(sqrt(gram[0][0])) and a.y == pytest.approx(0.0, abs=1e-9)
    apart = gram[0][0] + gram[2][2] - 2 * gram[0][2]
    assert (a.x - b.x) ** 2 + (a.y - b.y) ** 2 == pytest.approx(apart)
    other = plane.place([0.0, 1.0, 0.0])
    assert other.x**2 + other.y**2 + other.off**2 == pytest.approx(gram[1][1])


def test_the_merge_of_two_models_lies_between_them(scene: Scene) -> None:
    for plane in (geometry.Plane(scene), geometry.Plane(scene, (0, 1))):
        a, b, m = (plane.place(row) for row in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]))
        assert (m.x, m.y) == pytest.approx(((a.x + b.x) / 2, (a.y + b.y) / 2), abs=1e-9)


def test_a_frame_holds_all_points_with_room_around_them() -> None:
    found = geometry.frame([{"x": 0.0, "y": 1.0}, {"x": 4.0, "y": 1.0}])
    assert (found.x, found.y) == (2.0, 1.0) and found.width > 4.0 and found.height > 0.0


def test_agreement_holds_the_merge_beside_its_models(scene: Scene) -> None:
    merge = of_sum(scene, coefficients(wish(weights=(1.0, 0.0, 0.0)), scene.tensors))
    chosen = geometry.chosen_tensors(scene, "2", "attention")
    assert chosen and all(scene.tensors[i].layer == 2 for i in chosen)
    value = {(row["a"], row["b"]): row["value"] for row in geometry.agreement(scene, merge, chosen)}
    assert value["rotated", "merge"] == pytest.approx(1.0) and value["rotated", "rotated"] == pytest.approx(1.0)
    assert value["merge", "mirrored"] == pytest.approx(value["rotated", "mirrored"]) and len(value) == 16


def test_what_did_not_change_agrees_with_nothing(scene: Scene) -> None:
    norms = [i for i, tensor in enumerate(scene.tensors) if tensor.role.startswith("embedding")]
    assert {row["value"] for row in geometry.agreement(scene, None, norms)} == {None}


def test_iso_lines_of_a_linear_score_are_straight_and_where_it_takes_the_level() -> None:
    mesh = [[iso_lines.Vertex(float(x), float(y), 0.1 * x) for y in range(3)] for x in range(4)]
    found = iso_lines.iso_lines(mesh, [0.15])
    assert len(found) == 4
    assert all(row["x"] == pytest.approx(1.5) and row["x2"] == pytest.approx(1.5) for row in found)


def test_iso_lines_leave_out_cells_that_are_not_measured_yet() -> None:
    full = [[iso_lines.Vertex(float(x), float(y), 0.1 * x) for y in range(3)] for x in range(3)]
    holed: list[list[Any]] = [[*row] for row in full]
    holed[0][0] = None
    assert 0 < len(iso_lines.iso_lines(holed, [0.05])) < len(iso_lines.iso_lines(full, [0.05]))


def test_levels_are_round_and_within_what_was_measured() -> None:
    assert iso_lines.levels([0.52, 0.74]) == [0.55, 0.6, 0.65, 0.7]
    assert iso_lines.levels([]) == [] and iso_lines.levels([0.5]) == []


def test_a_grid_may_vary_each_weight_and_every_number_that_has_an_effect() -> None:
    names = [axis.name for axis in grid.axes_of(all_methods()["ties"], ["a", "b"])]
    assert names == ["weight[0]", "weight[1]", "density", "lambda"]
    method = all_methods()["ties"]
    first, second = grid.usual_axes(method, grid.axes_of(method, ["a", "b"]))
    assert (names[first], names[second]) == ("lambda", "density")


POINTS = [
    {"point": 0, "values": {"weight[0]": 0.0, "weight[1]": 0.0}, "scores": {"a": 0.2, "b": 0.9}, "mean": 0.55},
    {"point": 1, "values": {"weight[0]": 0.0, "weight[1]": 1.0}, "scores": {"a": 0.5, "b": 0.5}, "mean": 0.5},
    {"point": 2, "values": {"weight[0]": 0.5, "weight[1]": 0.0}, "scores": {"a": 0.4, "b": 0.4}, "mean": 0.4},
    {"point": 3, "values": {"weight[0]": 0.5, "weight[1]": 1.0}, "scores": {}, "mean": None, "error": "failed"},
]


def a_grid() -> grid.Grid:
    return grid.Grid("job", wish(), ("weight[0]", "weight[1]"), ("first", "second"), ((0.0, 0.5), (0.0, 1.0)))


def test_boxes_of_a_grid_meet_halfway_between_its_values() -> None:
    rows = grid.cells(a_grid(), POINTS)
    assert [row["point"] for row in rows] == [0, 1, 2]
    assert (rows[0]["a1"], rows[0]["a2"], rows[2]["a1"]) == (-0.25, 0.25, 0.25)


def test_the_front_holds_what_no_other_point_beats() -> None:
    assert [row["point"] for row in grid.front(POINTS, "a", "b") if row["front"]] == [0, 1]
    best = grid.best(POINTS)
    assert best is not None and best["point"] == 0


def test_a_grid_stands_in_the_plane_as_far_as_it_is_measured(scene: Scene) -> None:
    mesh = grid.mesh(scene, geometry.Plane(scene, (0, 1)), a_grid(), POINTS)
    assert mesh[1][1] is None and mesh[0][0] is not None and mesh[0][0].mean == 0.55
    ties = SimpleNamespace(wish=wish("ties"), values=a_grid().values)
    assert grid.mesh(scene, geometry.Plane(scene), ties, POINTS) == []  # type: ignore[arg-type]


def test_a_grid_survives_the_session_as_plain_values() -> None:
    assert grid.grid_from(a_grid().data()) == a_grid()


@pytest.mark.parametrize(
    ("parts", "span", "item"),
    [([], None, "0.5"), (["mlp"], (1, 1), "1 mlp=0.5"), (["attention", "norm"], (0, 2), "0-2 attention norm=0.5")],
)
def test_a_selection_becomes_an_item_of_the_line(parts: list[str], span: tuple[int, int] | None, item: str) -> None:
    assert block_item(parts, span, 0.5) == item


def test_values_are_moved_to_where_a_slider_can_stand() -> None:
    assert [on_slider(value, (-1.0, 1.5)) for value in (0.333, -0.72, -9.0, 7.0)] == [0.35, -0.7, -1.0, 1.5]


def test_moves_are_spelled_in_few_words() -> None:
    assert trail.spelled(wish(shared=(("lambda", 0.5),))) == "task_arithmetic · 0.4, 0.3, 0.2 · lambda 0.5"


def test_weights_reach_as_far_as_the_method_allows() -> None:
    methods = all_methods()
    assert weight_span(methods["task_arithmetic"]) == (-1.0, 1.5)
    assert weight_span(methods["convex"])[0] == 0.0
    assert all(low <= 0 < high for low, high in (weight_span(m) for m in methods.values() if takes_weights(m)))


def test_a_task_vector_that_is_taken_away_is_so_in_the_plane_and_in_the_recipe(scene: Scene) -> None:
    negated = wish(weights=(-0.5, 0.75), shared=(("lambda", 0.5),))
    assert coefficients(negated).rows == ((-0.25, 0.375),)
    assert read_recipe(recipe_text(negated)).models[0].parameters["weight"][0].value == -0.5
    text = recipe_text(wish(weights=(-0.5, 0.75), lines=("0; attention=1", "")), scene.tensors)
    assert {setting.value for setting in read_recipe(text).models[0].parameters["weight"]} == {-0.5, 0.0}
