from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor


def gram(x):
    """tau' tau / |tau|^2, entry by entry."""
    rows, columns = x.shape
    found = np.zeros((columns, columns))
    for i in range(columns):
        for j in range(columns):
            found[i, j] = sum(x[k, i] * x[k, j] for k in range(rows))
    return found / (x**2).sum()


def closed_form(task_vectors, weights=None):
    weights = weights or [1] * len(task_vectors)
    pairs = [(x, weight * gram(x)) for x, weight in zip(task_vectors, weights, strict=True) if x.any()]
    return sum(x @ g for x, g in pairs) @ np.linalg.pinv(sum(g for _, g in pairs), rcond=1e-9)


def loss(tau, task_vectors):
    return sum((((tau - x) @ x.T) ** 2).sum() / (x**2).sum() for x in task_vectors)


def adam(task_vectors, steps):
    """The paper's descent from the sum of the task vectors, its gradient by the chain rule of the loss above."""
    tau = sum(task_vectors)
    first, second = np.zeros_like(tau), np.zeros_like(tau)
    for step in range(1, steps + 1):
        slope = sum(2 * (tau - x) @ x.T @ x / (x**2).sum() for x in task_vectors)
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope**2
        tau = tau - 1e-5 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return tau


def wudi(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("wudi", x, torch.zeros(x.shape[1:]), **parameters).numpy()


def changes(seed, *shape):
    return (np.random.default_rng(seed).standard_normal(shape) * 0.002).astype(np.float32)


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (3, 20)])
@pytest.mark.parametrize("models", [1, 2, 4])
def test_the_papers_minimum(shape, models):
    x = changes(1, models, *shape)
    np.testing.assert_allclose(wudi(x), closed_form(x.astype(np.float64)), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("shape", [(5, 5), (3, 20), (7, 2)])
@pytest.mark.parametrize("steps", [1, 2, 40])
def test_the_papers_descent(shape, steps):
    x = changes(2, 3, *shape)
    found = wudi(x, solver="gradient", steps=steps)
    np.testing.assert_allclose(found, adam(x.astype(np.float64), steps), rtol=1e-5, atol=1e-9)


def test_the_descent_takes_300_steps_by_default():
    x = changes(3, 2, 4, 4)
    np.testing.assert_array_equal(wudi(x, solver="gradient"), wudi(x, solver="gradient", steps=300))


def test_the_closed_form_reaches_a_lower_loss_than_the_descent():
    x = changes(4, 3, 6, 6)
    wide = x.astype(np.float64)
    assert loss(wudi(x), wide) < loss(wudi(x, solver="gradient"), wide) < loss(wide.sum(0), wide)


@pytest.mark.parametrize("shape", [(9, 4), (3, 20)])
def test_weights_multiply_each_tasks_part_of_the_loss(shape):
    x = changes(5, 3, *shape)
    expected = closed_form(x.astype(np.float64), weights=[0.5, 2, 1])
    np.testing.assert_allclose(wudi(x, weight=[0.5, 2, 1]), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("shape", [(12, 8), (8, 12)])
def test_low_rank_task_vectors_take_the_pseudo_inverse(shape):
    generator = np.random.default_rng(6)
    rows, columns = shape
    x = generator.standard_normal((2, rows, 2)) @ generator.standard_normal((2, 2, columns)) * 0.002
    np.testing.assert_allclose(wudi(x.astype(np.float32)), closed_form(x), rtol=1e-3, atol=1e-6)


def test_task_vectors_of_different_inputs_are_both_kept():
    x = np.zeros((2, 3, 6), np.float32)
    x[0, :, :3], x[1, :, 3:] = changes(7, 2, 3, 3)
    np.testing.assert_allclose(wudi(x), x.sum(0), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("solver", ["closed_form", "gradient"])
def test_a_task_vector_of_zero_is_left_out(solver):
    x = changes(8, 3, 5, 4)
    x[1] = 0
    np.testing.assert_array_equal(wudi(x, solver=solver), wudi(x[[0, 2]], solver=solver))


@pytest.mark.parametrize("solver", ["closed_form", "gradient"])
def test_models_that_are_the_base_model_give_the_base_model(solver):
    assert not wudi(np.zeros((2, 4, 4), np.float32), solver=solver).any()


def test_a_model_of_weight_zero_does_not_count():
    x = changes(9, 3, 5, 4)
    np.testing.assert_array_equal(wudi(x, weight=[1, 0, 1]), wudi(x[[0, 2]]))


@pytest.mark.parametrize("solver", ["closed_form", "gradient"])
def test_equal_models_are_a_fixed_point_at_weights_that_sum_to_one(solver):
    x = np.repeat(changes(10, 1, 5, 4), 3, 0)
    np.testing.assert_allclose(wudi(x, solver=solver, weight=1 / 3), x[0], rtol=1e-6)


def test_scaled_models_give_the_scaled_minimum():
    x = changes(11, 3, 5, 4)
    np.testing.assert_allclose(wudi(x * 2**10), wudi(x) * 2**10, rtol=1e-6)


def test_a_huge_ridge_gives_the_mean():
    x = changes(12, 3, 5, 4)
    np.testing.assert_allclose(wudi(x, ridge=1e9), x.mean(0), rtol=1e-4, atol=1e-9)


def test_lambda_scales_the_merged_task_vector():
    x = changes(13, 2, 5, 4)
    np.testing.assert_allclose(wudi(x, lambda_=0.5), wudi(x) / 2, rtol=1e-6)


def test_vectors_get_the_weighted_mean():
    assert wudi([[1.0, 4.0], [3.0, 0.0]], weight=[3, 1]).tolist() == [1.5, 3.0]


def test_vectors_of_models_that_all_have_weight_zero_stay_at_the_base_model():
    assert wudi([[1.0], [3.0]], weight=0).tolist() == [0.0]


@pytest.mark.parametrize("solver", ["closed_form", "gradient"])
def test_what_is_no_number_stays_visible(solver):
    x = changes(14, 2, 4, 4)
    x[0, 0, 0] = np.nan
    assert np.isnan(wudi(x, solver=solver)).any()
