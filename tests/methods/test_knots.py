from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor


def task_vectors(models, rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((models, rows, columns)).astype(np.float32)


def knots(x, method="knots", **parameters):
    x = torch.as_tensor(np.asarray(x, dtype=np.float32))
    return merge_tensor(method, x, torch.zeros(x.shape[1:]), **parameters).numpy()


def ties(z, weights, density):
    """Trim every matrix, elect a sign per entry, average what agrees."""
    trimmed = []
    for each, share in zip(z, density, strict=True):
        kept, order = np.zeros_like(each), np.argsort(-np.abs(each), axis=None)
        count = 0 if share == 0 else each.size if share == 1 else max(1, int(share * each.size))
        kept.flat[order[:count]] = each.flat[order[:count]]
        trimmed.append(kept)
    merged = np.zeros_like(z[0])
    for place in np.ndindex(merged.shape):
        entries = [w * each[place] for w, each in zip(weights, trimmed, strict=True)]
        sign = 1 if sum(entries) >= 0 else -1
        agree = [(entry, w) for entry, w in zip(entries, weights, strict=True) if entry * sign > 0]
        divisor = sum(w for _, w in agree)
        merged[place] = sum(entry for entry, _ in agree) / (divisor or 1)
    return merged


def expected(x, weights, density, inner, scale=1.0):
    """The paper: one decomposition of the matrices side by side, and their coordinates merged."""
    x = x.astype(np.float64)
    u, s, vt = np.linalg.svd(np.concatenate(list(x), 1), full_matrices=False)
    rank = sum(s > 1e-5 * s[0])
    columns = x.shape[2]
    z = [np.diag(s[:rank]) @ vt[:rank, i * columns : (i + 1) * columns] for i in range(len(x))]
    if inner == "ties":
        return scale * u[:, :rank] @ ties(z, weights, density)
    return scale * u[:, :rank] @ sum(w * each for w, each in zip(weights, z, strict=True))


@pytest.mark.parametrize("inner", ["ties", "sum"])
@pytest.mark.parametrize("shape", [(6, 6), (5, 9), (9, 5), (25, 4)])
@pytest.mark.parametrize("weights, scale", [([1, 1, 1], 1.0), ([0.3, 1.7, -0.4], 0.5)])
def test_every_shape_and_weight_is_that_of_the_transcription(inner, shape, weights, scale):
    x, density = task_vectors(3, *shape), [0.2, 0.53, 1.0]
    found = knots(x, inner=inner, weight=weights, density=density, lambda_=scale)
    np.testing.assert_allclose(found, expected(x, weights, density, inner, scale), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("density, models", list(product([0.0, 1e-9, 0.1, 0.5, 0.999, 1.0], [1, 2, 4])))
def test_every_density_is_that_of_the_transcription(density, models):
    x = task_vectors(models, 6, 7, seed=1)
    found = knots(x, density=density)
    np.testing.assert_allclose(found, expected(x, [1] * models, [density] * models, "ties"), rtol=1e-4, atol=1e-5)


def test_the_defaults_are_ties_of_a_fifth():
    x = task_vectors(3, 6, 8)
    np.testing.assert_allclose(knots(x), expected(x, [1] * 3, [0.2] * 3, "ties"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 6), (5, 9), (20, 4)])
def test_the_sum_is_task_arithmetic(shape):
    x, weights = task_vectors(3, *shape), [0.3, 1.2, -1.0]
    found = knots(x, inner="sum", weight=weights)
    np.testing.assert_allclose(found, knots(x, "task_arithmetic", weight=weights), rtol=1e-4, atol=1e-5)


def test_task_vectors_with_one_row_each_are_merged_by_ties_as_they_stand():
    x = np.zeros((2, 2, 4))
    x[:, 0] = [[3, 1, 0, -2], [1, -2, 0, 4]]
    np.testing.assert_allclose(knots(x, density=1.0), knots(x, "ties", density=1.0), atol=1e-6)


def test_the_merge_does_not_depend_on_the_basis_of_the_outputs():
    x = task_vectors(3, 6, 5)
    left = np.linalg.qr(task_vectors(1, 6, 6, seed=1)[0].astype(np.float64))[0]
    np.testing.assert_allclose(knots(left @ x), left @ knots(x), atol=1e-5)


@pytest.mark.parametrize("models", [1, 2, 5])
def test_equal_task_vectors_are_a_fixed_point_if_nothing_is_trimmed(models):
    x = np.repeat(task_vectors(1, 6, 4), models, 0)
    np.testing.assert_allclose(knots(x, density=1.0), x[0], rtol=1e-4, atol=1e-5)


def test_low_rank_task_vectors_are_trimmed_among_their_own_directions():
    x = task_vectors(2, 30, 1) @ task_vectors(2, 1, 8, seed=1)
    np.testing.assert_allclose(knots(x, density=0.5), expected(x, [1, 1], [0.5, 0.5], "ties"), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**30])
def test_the_scale_of_the_task_vectors_does_not_matter(scale):
    x = task_vectors(3, 6, 8)
    assert np.array_equal(knots(x * scale), knots(x) * np.float32(scale))


def test_a_zero_task_vector_has_no_vote():
    x = task_vectors(1, 6, 4)
    np.testing.assert_allclose(knots(np.concatenate([x, 0 * x]), density=1.0), x[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("inner", ["ties", "sum"])
def test_task_vectors_of_zeros_give_the_base_model(inner):
    assert not knots(np.zeros((3, 6, 4)), inner=inner).any()


def test_what_is_no_matrix_is_added_or_averaged_as_the_inner_rule():
    x, weights = task_vectors(2, 1, 10)[:, 0], [1, 3]
    np.testing.assert_allclose(knots(x, weight=weights, inner="sum"), x[0] + 3 * x[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(knots(x, weight=weights), (x[0] + 3 * x[1]) / 4, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(knots(x, weight=[1, -1]), x[0] - x[1], rtol=1e-5, atol=1e-6)
