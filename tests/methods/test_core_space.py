from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor


def ties(cores, density, weights):
    """Keep the int(d density) + 1 largest entries of each core, elect, average what agrees."""
    d = cores[0].size
    trimmed = []
    for core, weight in zip(cores, weights, strict=True):
        threshold = np.sort(np.abs(core).ravel())[max(0, d - int(d * density) - 1)]
        trimmed.append(np.where(np.abs(core) >= threshold, core, 0) * weight)
    merged = np.zeros_like(cores[0])
    for place in np.ndindex(merged.shape):
        entries = [core[place] for core in trimmed]
        sign = 1 if sum(entries) >= 0 else -1
        agree = [(x, weight) for x, weight in zip(entries, weights, strict=True) if x * sign > 0]
        merged[place] = sum(x for x, _ in agree) / (sum(weight for _, weight in agree) or 1)
    return merged


def transcription(task_vectors, *, inner, density=0.1, isotropic=False, weights=None):
    """Bases by full decompositions of the stacks, cores between them, `inner`, and back."""
    weights = weights or [1] * len(task_vectors)
    u, s, _ = np.linalg.svd(np.concatenate(list(task_vectors), 1), full_matrices=False)
    _, t, vt = np.linalg.svd(np.concatenate(list(task_vectors), 0), full_matrices=False)
    u, vt = u[:, s > 1e-5 * s[0]], vt[t > 1e-5 * t[0]]
    cores = [u.T @ x @ vt.T for x in task_vectors]
    if inner == "ties":
        merged = ties(cores, density, weights)
    else:
        merged = sum(weight * core for core, weight in zip(cores, weights, strict=True))
    if isotropic:
        left, values, right = np.linalg.svd(merged, full_matrices=False)
        merged = left @ right * values.mean()
    return u @ merged @ vt


def core_space(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("core_space", x, torch.zeros(x.shape[1:]), **parameters).numpy()


def adapters(seed, rank, models=3, rows=10, columns=8):
    generator = np.random.default_rng(seed)
    factors = generator.standard_normal((models, rows, rank)), generator.standard_normal((models, rank, columns))
    return factors[0] @ factors[1] * 0.01


@pytest.mark.parametrize("density", [0.0, 0.1, 0.35, 0.8, 1.0])
@pytest.mark.parametrize("rank", [1, 2, 8])
@pytest.mark.parametrize("weights", [[1, 1, 1], [0.5, 2, 1], [1, -0.3, 0.7]])
def test_ties_in_the_core(density, rank, weights):
    x = adapters(1, rank)
    expected = transcription(x, inner="ties", density=density, weights=weights)
    found = core_space(x.astype(np.float32), density=density, weight=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("rows, columns", [(5, 9), (9, 5), (7, 7)])
def test_task_vectors_may_be_tall_wide_and_square(rows, columns):
    x = adapters(2, 2, 2, rows, columns)
    expected = transcription(x, inner="ties", density=0.4)
    np.testing.assert_allclose(core_space(x.astype(np.float32), density=0.4), expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("inner", ["sum", "ties"])
def test_an_isotropic_core_has_one_singular_value(inner):
    x = adapters(3, 2)
    expected = transcription(x, inner=inner, density=0.6, isotropic=True)
    found = core_space(x.astype(np.float32), inner=inner, density=0.6, isotropic=True)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-7)


def test_an_isotropic_core_of_lower_rank_has_zeros_besides():
    x = adapters(4, 1)
    found = core_space(np.stack([x[0], x[1]]).astype(np.float32), inner="sum", weight=[1, 0], isotropic=True)
    np.testing.assert_allclose(found, x[0], rtol=1e-4, atol=1e-8)


def test_the_defaults_are_ties_with_a_tenth():
    x = adapters(5, 2).astype(np.float32)
    np.testing.assert_array_equal(core_space(x), core_space(x, inner="ties", density=0.1))


@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("weights", [[1, 1, 1], [0.5, -2, 1]])
def test_the_sum_of_cores_is_task_arithmetic(rank, weights):
    x = adapters(6, rank).astype(np.float32)
    expected = sum(weight * each for weight, each in zip(weights, x, strict=True))
    np.testing.assert_allclose(core_space(x, inner="sum", weight=weights), expected, rtol=1e-4, atol=1e-7)


def test_adapters_of_different_ranks_share_one_core():
    x = np.concatenate([adapters(7, 1, models=1), adapters(8, 3, models=1)])
    expected = transcription(x, inner="ties", density=0.5)
    np.testing.assert_allclose(core_space(x.astype(np.float32), density=0.5), expected, rtol=1e-3, atol=1e-7)


def test_directions_below_the_tolerance_are_dropped():
    x = np.diag([1.0, 0.5, 0.01]).astype(np.float32)[None]
    found = core_space(x, inner="sum", rank_tolerance=0.1)
    np.testing.assert_allclose(found, np.diag([1, 0.5, 0]), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("inner", ["sum", "ties"])
def test_equal_models_are_a_fixed_point_at_weights_that_sum_to_one(inner):
    x = np.repeat(adapters(9, 2, models=1), 3, 0).astype(np.float32)
    np.testing.assert_allclose(core_space(x, inner=inner, density=1.0, weight=1 / 3), x[0], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("inner", ["sum", "ties"])
@pytest.mark.parametrize("isotropic", [False, True])
def test_models_that_are_the_base_model_give_the_base_model(inner, isotropic):
    assert not core_space(np.zeros((2, 4, 3), np.float32), inner=inner, isotropic=isotropic).any()


def test_lambda_scales_the_merged_task_vector():
    x = adapters(10, 2).astype(np.float32)
    np.testing.assert_allclose(core_space(x, lambda_=0.5), core_space(x) / 2, rtol=1e-6, atol=1e-9)


def test_vectors_are_summed_beside_a_sum_and_averaged_beside_ties():
    x = [[1.0, 4.0], [3.0, 0.0]]
    assert core_space(x, inner="sum", weight=[3, 1]).tolist() == [6.0, 12.0]
    assert core_space(x, inner="ties", weight=[3, 1]).tolist() == [1.5, 3.0]


def test_weights_that_cancel_are_not_divided_by():
    assert core_space([[1.0], [3.0]], weight=[1, -1]).tolist() == [-2.0]


def test_what_is_no_number_stays_visible():
    x = adapters(11, 2).astype(np.float32)
    x[0, 0, 0] = np.nan
    assert np.isnan(core_space(x)).any()
