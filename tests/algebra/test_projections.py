from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.algebra.projections import (
    conflict_slope,
    descend,
    divide_by_gram,
    free_slope,
    leading_rank,
    remove_directions,
    shared_directions,
)
from merging.algebra.spectra import svd
from merging.errors import ParameterError


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("share, rank", [(0.0, 0), (0.39, 0), (0.4, 1), (0.69, 1), (0.9, 3), (0.999, 3), (1.0, 0)])
def test_the_leading_rank_stops_before_the_share_is_passed(share, rank):
    assert leading_rank(torch.tensor([4.0, 3.0, 2.0, 1.0]), share) == rank


def test_no_singular_values_lead_in_a_zero_matrix():
    assert leading_rank(torch.zeros(3), 0.5) == leading_rank(torch.zeros(0), 0.5) == 0


@pytest.mark.parametrize("shape", [(5, 5), (8, 3), (3, 8)])
@pytest.mark.parametrize("leading", [0, 1, 2, 3])
def test_removing_directions_is_zeroing_coordinates_in_full_bases(shape, leading):
    other, x = random(1, *shape), random(2, *shape)
    u, _, vt = np.linalg.svd(other.numpy(), full_matrices=True)
    p = u.T @ x.numpy() @ vt.T
    np.fill_diagonal(p, 0)
    p[:leading, :leading] = 0
    np.testing.assert_allclose(remove_directions(x, *svd(other), leading), u @ p @ vt, atol=1e-12)


def test_along_the_null_space_nothing_is_removed():
    x = random(3, 4, 4)
    found = remove_directions(x, *svd(torch.diag(torch.tensor([2.0, 0.0, 0.0, 0.0]))), 3)
    assert found[0, 0] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(found[1:, 1:], x[1:, 1:], atol=1e-12)


def test_no_argument_is_changed():
    x, u, s, vt = random(4, 3, 3), *svd(random(5, 3, 3))
    gram = vt.T @ vt
    copies = [each.clone() for each in (x, u, s, vt, gram)]
    remove_directions(x, u, s, vt, 1)
    divide_by_gram(x, gram, 1e-3)
    descend(x, lambda at: at, 3, 0.1)
    assert all(torch.equal(one, other) for one, other in zip((x, u, s, vt, gram), copies, strict=True))


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_dividing_by_a_gram_matrix_is_multiplying_with_its_inverse(ridge):
    samples, x = random(6, 20, 4), random(7, 3, 4)
    gram = (samples.T @ samples).numpy()
    inverse = np.linalg.inv(gram + ridge * np.linalg.norm(gram) * np.eye(4))
    np.testing.assert_allclose(divide_by_gram(x, torch.from_numpy(gram), ridge), x.numpy() @ inverse, rtol=1e-9)


def test_a_singular_gram_matrix_divides_by_its_pseudo_inverse():
    samples, x = random(8, 2, 5), random(9, 3, 5)
    gram = samples.T @ samples
    inside = x @ gram
    np.testing.assert_allclose(divide_by_gram(inside, gram), inside @ torch.linalg.pinv(gram), rtol=1e-2, atol=1e-2)


def test_a_gram_matrix_of_zeros_gives_zero():
    assert not divide_by_gram(random(10, 3, 5), torch.zeros(5, 5)).any()


def test_a_gram_matrix_that_is_not_finite_gives_no_number():
    assert divide_by_gram(random(11, 3, 2), torch.tensor([[1.0, 0.0], [0.0, torch.inf]])).isnan().all()


def test_a_matrix_with_a_negative_eigenvalue_is_refused():
    with pytest.raises(ParameterError, match="negative eigenvalue"):
        divide_by_gram(random(12, 3, 2), torch.diag(torch.tensor([1.0, -1.0])))


@pytest.mark.parametrize("steps", [1, 7, 100])
def test_the_descent_is_adam(steps):
    target = random(13, 3, 4)
    leaf = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([leaf], lr=0.01)
    for _ in range(steps):
        adam.zero_grad()
        ((leaf - target) ** 4).sum().backward()
        adam.step()
    found = descend(torch.zeros(3, 4), lambda x: 4 * (x - target) ** 3, steps, 0.01)
    np.testing.assert_allclose(found, leaf.detach(), rtol=1e-10)


def test_the_shared_directions_are_those_of_the_heads_side_by_side():
    x = random(14, 3, 7, 6)
    heads = [np.linalg.svd(each, full_matrices=False)[0][:, :2] for each in x.numpy()]
    u = np.linalg.svd(np.concatenate(heads, 1))[0][:, :3]
    found = shared_directions(x, 3).numpy()
    np.testing.assert_allclose(found @ found.T, u @ u.T, atol=1e-10)


@pytest.mark.parametrize("models, k", [(3, 0), (7, 3)])
def test_there_may_be_no_shared_directions(models, k):
    assert shared_directions(random(15, models, 6, 6), k).shape == (6, 0)


def test_the_slope_of_the_conflict_is_that_of_its_loss():
    x, scales = random(16, 3, 4, 5), torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    leaf = random(17, 4, 5).requires_grad_()
    merged = sum(scale * (each + leaf) for scale, each in zip(scales, x, strict=True))
    sum((each * (each - merged)).sum(1).square().sum() for each in x).backward()
    np.testing.assert_allclose(conflict_slope(x, scales)(leaf.detach()), leaf.grad, rtol=1e-9)


def test_a_free_slope_has_no_part_in_the_directions():
    basis = np.linalg.qr(random(18, 5, 2).numpy())[0]
    slope = free_slope(lambda x: x, torch.from_numpy(basis))(random(19, 5, 3))
    np.testing.assert_allclose(basis.T @ slope.numpy(), 0, atol=1e-12)
