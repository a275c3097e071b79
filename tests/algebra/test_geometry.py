from __future__ import annotations

from math import cos, sin

import pytest
import torch

from merging.algebra.geometry import gram, slerp_coefficients


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
