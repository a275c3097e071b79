from __future__ import annotations

from math import dist, isfinite

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.analysis.map import Map
from merging.analysis.positions import Positions
from tests.analysis.toys import exactly_diagnosed, explicit, matrix_models, orthogonal


def mapped(base, tuned):
    return Map(Positions(exactly_diagnosed(base, tuned)))


def turned(lengths):
    """Orthogonal task vectors of these lengths."""
    rows = orthogonal(24, 3)
    base = {"w.weight": torch.zeros(4, 6, dtype=torch.float64)}
    return base, [{"w.weight": (length * rows[i]).reshape(4, 6)} for i, length in enumerate(lengths)]


def close(found, expected, scale=1.0):
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9 * scale)


@given(st.integers(0, 50), st.lists(st.floats(-1, 2), min_size=2, max_size=2))
@settings(max_examples=15)
def test_of_two_models_all_distances_are_true_and_every_merge_lies_in_the_plane(seed, c):
    base, tuned = matrix_models((4, 6), 2, seed)
    plane = mapped(base, tuned)
    _, *tasks = explicit(base, tuned, "w.weight")
    close(plane.shown, 1.0)
    points = [plane.base, *plane.parents, plane.project(c)]
    places = [torch.zeros(24, dtype=torch.float64), *tasks, c[0] * tasks[0] + c[1] * tasks[1]]
    for i in range(4):
        assert points[i].out_of_plane == pytest.approx(0, abs=1e-7)
        for j in range(i):
            close(dist(points[i][:2], points[j][:2]), float((places[i] - places[j]).norm()))
    close(plane.coefficients(*points[3][:2]), c, scale=10)


@given(st.integers(0, 50))
@settings(max_examples=10)
def test_with_more_models_plane_and_height_together_are_the_distance_to_every_point_of_the_plane(seed):
    base, tuned = matrix_models((4, 6), 4, seed)
    plane = mapped(base, tuned)
    tasks = torch.stack(explicit(base, tuned, "w.weight")[1:])
    foot = torch.tensor(plane.coefficients(0.2, -0.1), dtype=torch.float64) @ tasks
    for i, point in enumerate(plane.parents):
        expected = float((tasks[i] - foot).norm())
        close(dist((point.x, point.y, point.out_of_plane), (0.2, -0.1, 0.0)), expected)


def test_the_plane_leaves_least_of_the_spread_out_of_sight():
    base, tuned = matrix_models((4, 6), 5)
    plane = mapped(base, tuned)
    points = torch.stack([torch.zeros(24, dtype=torch.float64), *explicit(base, tuned, "w.weight")[1:]])
    values = torch.linalg.svdvals(points - points.mean(0)).square()
    close(plane.shown, float(values[:2].sum() / values.sum()))
    heights = sum(point.out_of_plane**2 for point in (plane.base, *plane.parents))
    close(heights, float(values[2:].sum()))


@given(st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=10)
def test_the_merge_of_a_point_stands_at_that_point_in_the_plane(x, y):
    plane = mapped(*matrix_models((4, 6), 4))
    point = plane.project(plane.coefficients(x, y))
    close((point.x, point.y), (x, y), scale=10)
    assert point.out_of_plane == pytest.approx(0, abs=1e-6)


def test_a_grid_holds_the_merges_of_its_points_and_covers_all_models():
    plane = mapped(*matrix_models((4, 6), 3))
    grid = plane.grid(5, 4)
    assert grid.coefficients.shape == (4, 5, 3)
    close(grid.coefficients[2, 3].tolist(), plane.coefficients(grid.x[3], grid.y[2]))
    for point in (plane.base, *plane.parents):
        assert grid.x[0] < point.x < grid.x[-1]
        assert grid.y[0] < point.y < grid.y[-1]


def test_three_orthogonal_models_of_one_length_surround_the_base():
    plane = mapped(*turned((1.0, 1.0, 1.0)))
    sides = [dist(plane.parents[i][:2], plane.parents[j][:2]) for i in range(3) for j in range(i)]
    close(sides, [2**0.5] * 3)
    close([dist(parent[:2], plane.base[:2]) for parent in plane.parents], [(2 / 3) ** 0.5] * 3)


def test_the_base_is_the_origin_the_first_model_right_of_it_and_the_second_above():
    for seed in range(5):
        plane = mapped(*matrix_models((4, 6), 4, seed))
        close((plane.base.x, plane.base.y, plane.parents[0].y), (0.0, 0.0, 0.0))
        assert plane.parents[0].x > 0
        assert plane.parents[1].y > 0


def test_coefficients_that_differ_by_tensor_stand_where_their_merge_does():
    base = {"a.weight": torch.zeros(3, 4), "b.weight": torch.zeros(2, 5)}
    (_, a), (_, b) = matrix_models((3, 4), 3, 1), matrix_models((2, 5), 3, 2)
    tuned = [{"a.weight": x["w.weight"], "b.weight": y["w.weight"]} for x, y in zip(a, b, strict=True)]
    plane = mapped(base, tuned)
    c = torch.tensor([[0.3, -1.0, 0.5], [0.9, 0.2, 0.1]], dtype=torch.float64)
    inputs = [explicit(base, tuned, name)[1:] for name in base]
    total = torch.cat(
        [sum(w * tau for w, tau in zip(row, taus, strict=True)) for row, taus in zip(c, inputs, strict=True)]
    )
    foot = plane.coefficients(1.0, 2.0)
    point = plane.project(c)
    flat = [torch.cat(parts) for parts in zip(*inputs, strict=True)]
    expected = float((total - sum(w * tau for w, tau in zip(foot, flat, strict=True))).norm())
    close(dist(point, (1.0, 2.0, 0.0)), expected)


def test_one_model_identical_models_and_untouched_ones_have_a_place():
    base, (tuned,) = matrix_models((4, 6), 1)
    for models in ([tuned], [tuned, dict(tuned)], [tuned, base], [base], [base, base]):
        plane = mapped(base, models)
        points = [plane.base, *plane.parents, plane.project([0.5] * len(models))]
        assert all(isfinite(value) for point in points for value in point)
        assert plane.grid(3, 3).coefficients.isfinite().all()
        close(plane.shown, 1.0)
        assert all(point.y == pytest.approx(0, abs=1e-6) for point in points)
    plane = mapped(base, [tuned, dict(tuned)])
    close(*plane.coefficients(plane.parents[0].x, 0.0))
