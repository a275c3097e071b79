from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor


def task_vectors(models, rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((models, rows, columns)).astype(np.float32)


def svc(x, **parameters):
    x = torch.as_tensor(np.asarray(x, dtype=np.float32))
    return merge_tensor("svc", x, torch.zeros(x.shape[1:]), **parameters).numpy()


def expected(x, weights, floor=0.1, variant="paper", scale=1.0):
    """The paper, direction by direction, for positive weights."""
    x = x.astype(np.float64)
    total = sum(w * each for w, each in zip(weights, x, strict=True))
    u, s, vt = np.linalg.svd(total, full_matrices=False)
    merged = np.zeros_like(total)
    for r in range(len(s)):
        a = u[:, r] @ total
        h = [a @ (u[:, r] @ each) / np.sum((u[:, r] @ each) ** 2) for each in x]
        if variant == "paper":
            gamma = len(x) / sum(max(floor, each) for each in h)
        else:
            gamma = 1 / max(floor, sum(h) / len(h)) if min(h) > 0 else 1
        merged += scale * gamma * s[r] * np.outer(u[:, r], vt[r])
    return merged


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("shape", [(6, 6), (5, 12), (12, 5)])
@pytest.mark.parametrize("floor", [0.0, 0.1, 0.6, 1.0])
def test_every_floor_and_shape_is_that_of_the_transcription(variant, shape, floor):
    shared = task_vectors(1, *shape, seed=9)
    x, weights = task_vectors(3, *shape) + 2 * shared, [1.0, 0.5, 1.3]
    found = svc(x, weight=weights, floor=floor, variant=variant, lambda_=0.7)
    np.testing.assert_allclose(found, expected(x, weights, floor, variant, 0.7), rtol=1e-4, atol=1e-5)


def test_the_defaults_are_those_of_the_paper():
    x = task_vectors(4, 7, 9)
    np.testing.assert_allclose(svc(x), expected(x, [1] * 4, 0.1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("models, weight", [(1, 1.0), (3, 1.0), (4, 0.25), (5, 0.3)])
def test_equal_task_vectors_are_a_fixed_point(variant, models, weight):
    x = np.repeat(task_vectors(1, 6, 4), models, 0)
    np.testing.assert_allclose(svc(x, weight=weight, variant=variant), x[0], rtol=1e-4, atol=1e-6)


def test_orthogonal_task_vectors_are_added():
    x = np.stack([np.diag([3.0, 2, 0, 0]), np.diag([0, 0, 1.0, 4])])
    np.testing.assert_allclose(svc(x), x.sum(0), atol=1e-6)


def test_a_zero_task_vector_and_one_of_weight_zero_change_nothing():
    x = task_vectors(3, 6, 5)
    np.testing.assert_allclose(svc(np.concatenate([x[:2], 0 * x[:1]])), svc(x[:2]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(svc(x, weight=[1, 1, 0]), svc(x[:2]), rtol=1e-5, atol=1e-6)


def test_a_negative_weight_is_that_of_the_opposite_task_vector():
    x = task_vectors(2, 6, 5)
    np.testing.assert_allclose(svc(x, weight=[1, -0.7]), svc(x * [[[1]], [[-1]]], weight=[1, 0.7]), rtol=1e-5)


def test_a_common_factor_of_the_weights_cancels():
    x = task_vectors(3, 6, 5) * 0.1 + task_vectors(1, 6, 5, seed=1)
    assert np.allclose(svc(x, weight=0.5, floor=0.0), svc(x, floor=0.0), rtol=1e-4, atol=1e-6)


def test_only_singular_values_change():
    x = task_vectors(3, 6, 8)
    u, _, vt = np.linalg.svd(x.sum(0).astype(np.float64), full_matrices=False)
    core = u.T @ svc(x) @ vt.T
    np.testing.assert_allclose(core, np.diag(np.diag(core)), atol=1e-5)


def test_the_merge_turns_with_the_task_vectors():
    x = task_vectors(3, 6, 8)
    left, right = (np.linalg.qr(task_vectors(1, n, n, seed=n)[0].astype(np.float64))[0] for n in (6, 8))
    np.testing.assert_allclose(svc(left @ x @ right), left @ svc(x) @ right, atol=1e-4)


def test_low_rank_task_vectors_stay_in_their_subspace():
    x = task_vectors(2, 9, 2) @ task_vectors(1, 2, 7, seed=1)
    assert np.linalg.matrix_rank(svc(x), tol=1e-4) == 2


def test_task_vectors_of_zeros_and_those_that_cancel_give_the_base_model():
    x = task_vectors(1, 6, 4)
    assert not svc(np.zeros((3, 6, 4))).any()
    assert not svc(np.concatenate([x, -x])).any()


def test_what_is_no_matrix_is_added():
    x = task_vectors(2, 1, 10)[:, 0]
    np.testing.assert_allclose(svc(x, weight=[1, 2], lambda_=0.5), x[0] / 2 + x[1], rtol=1e-5, atol=1e-6)
