from __future__ import annotations

from math import cos, sin

import pytest
import torch

from merging.algebra.geometry import (
    arc_coefficients,
    combined_length,
    gram,
    gram_along,
    karcher_coefficients,
    pair_cosines,
    proportions,
    slerp_coefficients,
    squared_norms,
)


def at(angle, length=1.0):
    return torch.tensor([length * cos(angle), length * sin(angle)], dtype=torch.float64)


def test_inner_products_are_those_of_float64():
    x = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = torch.einsum("iab,jab->ij", x.double(), x.double())
    assert torch.allclose(gram(x), expected, rtol=1e-14)


def test_inner_products_of_nothing_are_zero():
    assert torch.equal(gram(torch.zeros(2, 0)), torch.zeros(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("t", [-0.5, 0.0, 0.25, 1.0, 1.5])
def test_the_point_lies_at_the_fraction_of_the_angle(t):
    x, y = at(0.3), at(1.8)
    first, second = slerp_coefficients(gram(torch.stack([x, y])), t)
    assert torch.allclose(first * x + second * y, at(0.3 + t * 1.5))


def test_coefficients_see_directions_only():
    pair = slerp_coefficients(gram(torch.stack([at(0.0), at(1.0)])), 0.3)
    assert pair == pytest.approx(slerp_coefficients(gram(torch.stack([at(0.0, 5.0), at(1.0, 0.01)])), 0.3))


@pytest.mark.parametrize("y", [at(0.03), at(3.13), at(1.0, 0.0), at(0.0)])
def test_nearly_parallel_opposite_and_zero_vectors_are_joined_by_a_line_or_a_quarter_arc(y):
    first, second = slerp_coefficients(gram(torch.stack([at(0.0), y])), 0.25)
    quarter = pytest.approx((sin(0.75 * 1.5707963267948966), sin(0.25 * 1.5707963267948966)))
    assert (first, second) == ((0.75, 0.25) if y.any() else quarter)


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(3, 0), (3, 1), (3, 5, 7)])
def test_squared_norms_are_the_diagonal_of_the_inner_products(shape):
    x = normal(*shape)
    assert torch.allclose(squared_norms(x), gram(x).diagonal(), rtol=1e-14)


@pytest.mark.parametrize("amounts", [[3.0], [1.0, 0.0, 3.0], [0.0, 0.0], [1e-300, 3e-300]])
def test_proportions_add_up_to_one(amounts):
    found = proportions(torch.tensor(amounts, dtype=torch.float64))
    assert float(found.sum()) == pytest.approx(1)
    assert found.tolist() == pytest.approx(
        [each / sum(amounts) if sum(amounts) else 1 / len(amounts) for each in amounts]
    )


@pytest.mark.parametrize("rows, columns", [(1, 1), (4, 6), (0, 3), (3, 0), (700, 150), (2, 70_000)])
def test_inner_products_along_an_axis_are_those_of_float64(rows, columns):
    x = normal(3, rows, columns)
    along_rows = torch.einsum("irc,jrc->ijr", x.double(), x.double())
    along_columns = torch.einsum("irc,jrc->ijc", x.double(), x.double())
    assert torch.allclose(gram_along(x, 2), along_rows, rtol=1e-12, atol=1e-10)
    assert torch.allclose(gram_along(x, 1), along_columns, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("cut", [1, 3, 8])
def test_inner_products_of_a_row_do_not_depend_on_the_other_rows(cut):
    x = normal(3, 9, 131)
    parts = [gram_along(x[:, :cut].contiguous(), 2), gram_along(x[:, cut:].contiguous(), 2)]
    assert torch.equal(torch.cat(parts, -1), gram_along(x, 2))


def test_cosines_of_pairs_are_those_of_torch():
    x = normal(4, 20)
    expected = [float(torch.cosine_similarity(x[i], x[j], 0)) for i in range(4) for j in range(i + 1, 4)]
    assert pair_cosines(gram(x)).tolist() == pytest.approx(expected, abs=1e-6)


def test_a_zero_vector_has_cosine_zero():
    assert pair_cosines(torch.tensor([[4.0, 0.0], [0.0, 0.0]])).tolist() == [0.0]


def test_a_short_vector_counts_as_longer_where_asked():
    products = gram(torch.tensor([[2.0], [1e-3]], dtype=torch.float64))
    assert pair_cosines(products).tolist() == pytest.approx([1.0])
    assert pair_cosines(products, 1e-2).tolist() == pytest.approx([0.1])


@pytest.mark.parametrize("t", [-0.5, 0.0, 0.25, 1.0, 1.5])
@pytest.mark.parametrize("angle", [1e-6, 0.5, 3.0])
def test_arcs_lie_at_the_fraction_of_the_angle(t, angle):
    x, y = at(0.3), at(0.3 + angle)
    first, second = arc_coefficients(torch.tensor(cos(angle), dtype=torch.float64), t)
    assert torch.allclose(first * x + second * y, at(0.3 + t * angle), atol=1e-9)


def test_arcs_without_an_angle_are_lines():
    first, second = arc_coefficients(torch.tensor([1.0, -1.0], dtype=torch.float64), 0.25)
    assert first.tolist() == [0.75, 0.75]
    assert second.tolist() == [0.25, 0.25]


def test_the_length_of_a_combination_is_that_of_the_vector():
    x, share = normal(3, 10).double(), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    assert combined_length(share, gram(x)) == pytest.approx(float((share @ x).norm()))


def test_a_length_that_is_rounding_is_zero():
    x = normal(10).double()
    products = gram(torch.stack([x, x / 3, x / 7]))
    assert combined_length(torch.tensor([10 / 21, -1.0, -1.0], dtype=torch.float64), products) == 0


@pytest.mark.parametrize("angles", [[0.0, 1.0], [0.0, 0.4, 1.1], [0.2, 0.3, 0.4, 2.0]])
def test_the_mean_of_directions_in_a_plane_has_their_mean_angle(angles):
    points = torch.stack([at(angle, length) for length, angle in enumerate(angles, start=1)])
    found = karcher_coefficients(gram(points), 50, 1e-9) @ points
    assert torch.allclose(found, at(sum(angles) / len(angles), (len(angles) + 1) / 2))


def test_more_steps_come_nearer_to_the_mean():
    products = gram(normal(4, 5))
    goal = karcher_coefficients(products, 100, 1e-12)
    errors = [float((karcher_coefficients(products, steps, 1e-12) - goal).norm()) for steps in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 100 * errors[-1]
