from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor


def task_vectors(models, rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((models, rows, columns)).astype(np.float32)


def iso(x, **parameters):
    x = torch.as_tensor(np.asarray(x, dtype=np.float32))
    return merge_tensor("iso_c", x, torch.zeros(x.shape[1:]), **parameters).numpy()


def expected(x, weights, scale=1.0):
    """The paper: decompose the sum, replace each singular value by their average, put together again."""
    total = sum(w * each.astype(np.float64) for each, w in zip(x, weights, strict=True))
    u, s, vt = np.linalg.svd(total, full_matrices=False)
    merged = np.zeros_like(total)
    for i in range(len(s)):
        merged += scale * sum(s) / len(s) * np.outer(u[:, i], vt[i])
    return merged


@pytest.mark.parametrize("shape", [(6, 6), (5, 12), (12, 5)])
@pytest.mark.parametrize("weights, scale", [([1, 1, 1], 1.0), ([0.3, 1.7, -0.4], 1.5), ([1], -2.0), ([1] * 20, 1.0)])
def test_every_shape_and_weight_is_that_of_the_transcription(shape, weights, scale):
    x = task_vectors(len(weights), *shape)
    np.testing.assert_allclose(iso(x, weight=weights, lambda_=scale), expected(x, weights, scale), rtol=1e-4, atol=1e-5)


def test_all_singular_values_are_equal_and_keep_their_sum():
    x = task_vectors(4, 7, 9)
    values = np.linalg.svd(iso(x), compute_uv=False)
    np.testing.assert_allclose(values, values[0], rtol=1e-5)
    assert values.sum() == pytest.approx(np.linalg.norm(x.sum(0), "nuc"), rel=1e-5)


def test_the_merge_turns_with_the_task_vectors():
    x = task_vectors(3, 6, 8)
    left, right = (np.linalg.qr(task_vectors(1, n, n, seed=n)[0].astype(np.float64))[0] for n in (6, 8))
    np.testing.assert_allclose(iso(left @ x @ right), left @ iso(x) @ right, atol=1e-5)


def test_null_directions_count_in_the_mean_and_stay_zero():
    x = task_vectors(1, 9, 2) @ task_vectors(1, 2, 6, seed=1)
    u, s, vt = np.linalg.svd(x[0].astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(iso(x), s[:2].sum() / 6 * u[:, :2] @ vt[:2], atol=1e-5)


def test_equal_task_vectors_are_added_before_the_spectrum_is_flattened():
    x = task_vectors(1, 5, 5)
    np.testing.assert_allclose(iso(np.repeat(x, 3, 0)), 3 * iso(x), rtol=1e-4, atol=1e-5)


def test_a_matrix_with_equal_singular_values_is_a_fixed_point():
    x = np.linalg.qr(task_vectors(1, 7, 5)[0].astype(np.float64))[0]
    np.testing.assert_allclose(iso(x[None]), x, atol=1e-6)


def test_task_vectors_of_zeros_and_those_that_cancel_give_the_base_model():
    x = task_vectors(1, 6, 4)
    assert not iso(np.zeros((3, 6, 4))).any()
    assert not iso(np.concatenate([x, -x])).any()


def test_what_is_no_matrix_is_averaged():
    x = task_vectors(2, 1, 10)[:, 0]
    np.testing.assert_allclose(iso(x, weight=[1, 3], lambda_=2.0), x[0] + 3 * x[1], rtol=1e-5, atol=1e-6)
