from __future__ import annotations

from math import ceil

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor


def task_vectors(models, rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((models, rows, columns)).astype(np.float32)


def cart(x, **parameters):
    x = torch.as_tensor(np.asarray(x, dtype=np.float32))
    return merge_tensor("cart", x, torch.zeros(x.shape[1:]), **parameters).numpy()


def expected(x, weights, share, task_scale, scale=1.0):
    """The paper: the average, and the truncated difference of every model from it."""
    x = [w * each.astype(np.float64) for w, each in zip(weights, x, strict=True)]
    mean = sum(x) / len(x)
    merged = mean.copy()
    for each in x:
        u, s, vt = np.linalg.svd(each - mean, full_matrices=False)
        for i in range(ceil(share * min(mean.shape))):
            merged += task_scale * s[i] * np.outer(u[:, i], vt[i])
    return scale * merged


@pytest.mark.parametrize("shape", [(6, 6), (5, 12), (12, 5)])
@pytest.mark.parametrize("share, task_scale", [(0.0, 1.0), (0.04, 0.1), (0.32, 0.5), (0.51, -1.0), (1.0, 0.3)])
def test_every_share_and_shape_is_that_of_the_transcription(shape, share, task_scale):
    x, weights = task_vectors(4, *shape), [1.0, 0.5, -2.0, 1.2]
    found = cart(x, weight=weights, rank_share=share, task_scale=task_scale, lambda_=0.7)
    np.testing.assert_allclose(found, expected(x, weights, share, task_scale, 0.7), rtol=1e-5, atol=1e-5)


def test_the_defaults_are_those_of_the_official_code():
    x = task_vectors(3, 30, 40)
    np.testing.assert_allclose(cart(x), expected(x, [1] * 3, 0.04, 0.1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("models", [1, 2, 3, 5])
@pytest.mark.parametrize("task_scale", [0.1, 1.0])
def test_equal_task_vectors_are_a_fixed_point(models, task_scale):
    x = np.repeat(task_vectors(1, 6, 4), models, 0)
    np.testing.assert_allclose(cart(x, task_scale=task_scale), x[0], rtol=1e-5)


def test_the_full_rank_leaves_the_mean():
    x = task_vectors(3, 6, 5)
    np.testing.assert_allclose(cart(x, rank_share=1.0, task_scale=0.7), x.mean(0), atol=1e-5)


def test_two_models_give_their_mean_whatever_the_rank():
    x = task_vectors(2, 8, 8)
    np.testing.assert_allclose(cart(x, rank_share=0.5, task_scale=3.0), x.mean(0), atol=1e-5)


def test_the_merge_turns_with_the_task_vectors():
    x = task_vectors(3, 6, 8)
    left, right = (np.linalg.qr(task_vectors(1, n, n, seed=n)[0].astype(np.float64))[0] for n in (6, 8))
    found = cart(left @ x @ right, rank_share=0.5, task_scale=1.0)
    np.testing.assert_allclose(found, left @ cart(x, rank_share=0.5, task_scale=1.0) @ right, atol=1e-5)


def test_task_vectors_of_zeros_give_the_base_model():
    assert not cart(np.zeros((3, 6, 4))).any()


def test_what_is_no_matrix_is_averaged():
    x = task_vectors(2, 1, 10)[:, 0]
    np.testing.assert_allclose(cart(x), x.mean(0), rtol=1e-5, atol=1e-6)
