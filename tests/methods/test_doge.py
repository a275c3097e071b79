from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.application import Application
from merging.methods.apply import merge_tensor
from merging.methods.declare import find_method
from tests.methods.together import measured_together


def loss(shift, task_vectors, lambdas):
    """Sum over tasks and rows of the square of what the row's product with its distance to the merge adds up to."""
    merged = sum(each * (x + shift) for x, each in zip(task_vectors, lambdas, strict=True))
    total = 0.0
    for x in task_vectors:
        for r in range(x.shape[0]):
            total += sum(x[r, c] * (x[r, c] - merged[r, c]) for c in range(x.shape[1])) ** 2
    return total


def gradient(shift, task_vectors, lambdas):
    """By central differences, exact for a square."""
    found = np.zeros_like(shift)
    for place in np.ndindex(shift.shape):
        step = np.zeros_like(shift)
        step[place] = 1e-2
        found[place] = loss(shift + step, task_vectors, lambdas) - loss(shift - step, task_vectors, lambdas)
    return found / 2e-2


def shared(task_vectors, parts):
    side, models = min(task_vectors[0].shape), len(task_vectors)
    heads = [np.linalg.svd(x, full_matrices=False)[0][:, : int(side / models)] for x in task_vectors]
    stack = np.concatenate(heads, 1)
    return np.linalg.svd(stack, full_matrices=False)[0][:, : int(side / parts)] if stack.size else stack


def transcription(task_vectors, *, density, steps, parts=6, length=0.07):
    lambdas = [length / np.sqrt((x**2).sum()) for x in task_vectors]
    p = shared(task_vectors, parts)
    shift = np.zeros_like(task_vectors[0])
    first, second = np.zeros_like(shift), np.zeros_like(shift)
    for step in range(1, steps + 1):
        slope = gradient(shift, task_vectors, lambdas)
        slope = slope - p @ p.T @ slope
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope**2
        shift = shift - 1e-4 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    merged = np.zeros_like(shift)
    for x, each in zip(task_vectors, lambdas, strict=True):
        threshold = np.sort(np.abs(x).ravel())[max(0, x.size - int(x.size * density) - 1)]
        merged += each * np.where(np.abs(x) >= threshold, x + shift, 0)
    return merged


def doge(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("doge", x, torch.zeros(x.shape[1:]), **parameters).numpy()


def changes(seed, *shape):
    return (np.random.default_rng(seed).standard_normal(shape) * 0.05).astype(np.float32)


@pytest.mark.parametrize("density", [0.0, 0.3, 0.77, 1.0])
@pytest.mark.parametrize("shape, parts", [((6, 6), 6), ((8, 4), 2), ((4, 7), 2)])
def test_the_paper(density, shape, parts):
    x = changes(1, 2, *shape)
    expected = transcription(x.astype(np.float64), density=density, steps=5, parts=parts)
    np.testing.assert_allclose(doge(x, density=density, steps=5, subspace=parts), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("models", [2, 3, 5])
def test_any_number_of_models(models):
    x = changes(2, models, 4, 5)
    expected = transcription(x.astype(np.float64), density=0.5, steps=3, parts=4)
    np.testing.assert_allclose(doge(x, density=0.5, steps=3, subspace=4), expected, rtol=1e-4, atol=1e-7)


def test_the_defaults_are_the_papers():
    x = changes(3, 2, 6, 6)
    named = doge(x, density=0.3, length=0.07, subspace=6, steps=400, others="base")
    np.testing.assert_array_equal(doge(x), named)


def test_the_descent_lowers_the_loss():
    x = changes(4, 3, 6, 6)
    wide = x.astype(np.float64)
    lambdas = [0.07 / np.sqrt((each**2).sum()) for each in wide]
    plain = sum(scale * each for scale, each in zip(lambdas, wide, strict=True))
    shift = (doge(x, density=1.0) - plain) / sum(lambdas)
    assert loss(shift, wide, lambdas) < 0.9 * loss(np.zeros_like(shift), wide, lambdas)


def test_every_task_vector_has_the_given_length():
    x = changes(6, 1, 5, 4)
    found = doge(x, density=1.0, length=0.5, steps=1)
    assert np.linalg.norm(found) == pytest.approx(0.5, rel=1e-2)


def test_trimming_is_by_all_tensors_together():
    small, large = torch.from_numpy(changes(7, 2, 4, 4)) * 0.01, torch.from_numpy(changes(8, 2, 6, 6))
    method = find_method("doge")
    use = Application(method, {"density": 0.3, "steps": 2}, 2, 2, reach="matrix")
    measured = measured_together(use, (small, large))
    assert not use.merge(small, measured).any()
    assert int(use.merge(large[:1].repeat(2, 1, 1), measured).count_nonzero()) > 0


def test_ties_of_the_threshold_are_all_kept():
    x = np.ones((1, 3, 3), np.float32)
    assert (doge(x, density=0.1, steps=1) != 0).all()


def test_a_task_vector_of_zero_is_left_out():
    x = changes(9, 3, 5, 6)
    x[1] = 0
    np.testing.assert_array_equal(doge(x, steps=3), doge(x[[0, 2]], steps=3))


def test_models_that_are_the_base_model_give_the_base_model():
    assert not doge(np.zeros((2, 4, 4), np.float32)).any()


def test_more_models_than_directions_share_none():
    x = changes(10, 5, 3, 4)
    expected = transcription(x.astype(np.float64), density=1.0, steps=2, parts=1)
    np.testing.assert_allclose(doge(x, density=1.0, steps=2, subspace=1), expected, rtol=1e-4, atol=1e-7)


def test_lambda_scales_the_merged_task_vector():
    x = changes(11, 2, 4, 4)
    np.testing.assert_allclose(doge(x, steps=2, lambda_=0.5), doge(x, steps=2) / 2, rtol=1e-6)


def test_vectors_stay_at_the_base_model_or_get_the_mean():
    x = [[1.0, 4.0], [3.0, 0.0]]
    assert doge(x).tolist() == [0.0, 0.0]
    assert doge(x, others="mean").tolist() == [2.0, 2.0]


def test_what_is_no_number_stays_visible():
    x = changes(12, 2, 4, 4)
    x[0, 0, 0] = np.nan
    assert np.isnan(doge(x, steps=2)).any()
