from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor


def task_vectors(models, rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((models, rows, columns)).astype(np.float32)


def iso(x, method="iso_cts", **parameters):
    x = torch.as_tensor(np.asarray(x, dtype=np.float32))
    return merge_tensor(method, x, torch.zeros(x.shape[1:]), **parameters).numpy()


def polar(x):
    p, _, q = np.linalg.svd(x, full_matrices=False)
    return p @ q


def expected(x, weights, share=0.8, scale=1.0):
    """The paper: a common subspace of the sum and one of each task in its complement, made orthogonal and isotropic."""
    x = [w * each.astype(np.float64) for each, w in zip(x, weights, strict=True)]
    k, models = min(x[0].shape), len(x)
    special = round((k - int(share * k)) / models)
    if special * models > k:
        special = k // models
    count = k - special * models
    u, s, vt = np.linalg.svd(sum(x), full_matrices=False)
    common = u[:, :count]
    left, values, right = [], [], []
    for each in x:
        a, b, c = np.linalg.svd(each - common @ common.T @ each, full_matrices=False)
        for i in range(special):
            left.append(a[:, i])
            values.append(b[i])
            right.append(c[i])
    for i in range(count):
        left.append(u[:, i])
        values.append(s[i])
        right.append(vt[i])
    return scale * sum(values) / k * polar(np.stack(left, 1)) @ polar(np.stack(right))


@pytest.mark.parametrize("shape, models", list(product([(10, 10), (9, 20), (20, 11)], [1, 2, 3, 4, 12])))
def test_every_shape_and_number_of_models_is_that_of_the_transcription(shape, models):
    x = task_vectors(models, *shape)
    np.testing.assert_allclose(iso(x), expected(x, [1] * models), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.75, 0.95, 1.0])
def test_every_common_share_is_that_of_the_transcription(share):
    x, weights = task_vectors(3, 8, 10, seed=1), [0.5, 1.5, -1.0]
    found = iso(x, common_share=share, weight=weights, lambda_=1.5)
    np.testing.assert_allclose(found, expected(x, weights, share, 1.5), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share, special", [(0.5, 2), (0.3, 4)])
def test_a_half_is_rounded_to_the_even_number(share, special):
    """Two models of 10 directions: 5 / 2 gives 2 for each, 7 / 2 gives 4."""
    x = task_vectors(2, 10, 10)
    np.testing.assert_allclose(
        iso(x, common_share=share), iso(x, common_share=1 - 2 * special / 10 + 1e-9), rtol=1e-5, atol=1e-6
    )


def test_without_special_directions_it_is_iso_c():
    x = task_vectors(2, 6, 9)
    np.testing.assert_allclose(iso(x, common_share=0.9), iso(x, "iso_c"), rtol=1e-5, atol=1e-6)
    assert not np.allclose(iso(x, common_share=0.5), iso(x, "iso_c"), atol=1e-2)


def test_all_singular_values_are_equal():
    values = np.linalg.svd(iso(task_vectors(3, 12, 14)), compute_uv=False)
    np.testing.assert_allclose(values, values[0], rtol=1e-5)


def test_the_merge_turns_with_the_task_vectors():
    x = task_vectors(3, 12, 15)
    left, right = (np.linalg.qr(task_vectors(1, n, n, seed=n)[0].astype(np.float64))[0] for n in (12, 15))
    np.testing.assert_allclose(iso(left @ x @ right), left @ iso(x) @ right, atol=1e-5)


@pytest.mark.parametrize("models", [1, 3, 7])
def test_low_rank_equal_and_zero_task_vectors_stay_in_their_subspace(models):
    x = task_vectors(1, 9, 2) @ task_vectors(1, 2, 6, seed=1)
    merged = iso(np.concatenate([np.repeat(x, models, 0), np.zeros_like(x)]))
    assert np.isfinite(merged).all()
    assert np.linalg.matrix_rank(merged, tol=1e-4) == 2
    u, _, _ = np.linalg.svd(x[0].astype(np.float64))
    np.testing.assert_allclose(u[:, 2:].T @ merged, 0, atol=1e-5)


def test_task_vectors_of_zeros_give_the_base_model():
    assert not iso(np.zeros((3, 6, 4))).any()


def test_what_is_no_matrix_is_averaged():
    x = task_vectors(2, 1, 10)[:, 0]
    np.testing.assert_allclose(iso(x), x.mean(0), rtol=1e-5, atol=1e-6)
