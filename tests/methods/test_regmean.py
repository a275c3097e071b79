from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor
from merging.methods.declare import find_method


def transcription(weights, grams, reduction, importance=None):
    """W' = (sum G_i)^-1 sum G_i W_i', the off-diagonal entries of each G_i times `reduction`; W (out, in)."""
    left, right = 0, 0
    for i, (w, gram) in enumerate(zip(weights, grams, strict=True)):
        g = gram.copy()
        for a in range(len(g)):
            for b in range(len(g)):
                g[a, b] *= (1 if a == b else reduction) * (importance[i] if importance else 1)
        left, right = left + g, right + g @ w.T
    return np.linalg.solve(left, right).T


def data(seed, models=3, outputs=4, inputs=6, samples=50):
    generator = np.random.default_rng(seed)
    weights = generator.standard_normal((models, outputs, inputs)).astype(np.float32)
    x = generator.standard_normal((models, samples, inputs)) * generator.uniform(0.1, 3, (models, 1, inputs))
    return weights, np.einsum("ksa,ksb->kab", x, x) / samples, x


def regmean(weights, grams, **parameters):
    statistics = {"gram_inputs": torch.as_tensor(grams, dtype=torch.float32)}
    return merge_tensor("regmean", torch.as_tensor(weights), companions=statistics, **parameters).numpy()


@pytest.mark.parametrize("reduction", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("outputs, inputs", [(4, 6), (7, 3), (5, 5)])
@pytest.mark.parametrize("models", [1, 2, 4])
def test_the_paper(reduction, outputs, inputs, models):
    weights, grams, _ = data(1, models, outputs, inputs)
    expected = transcription(weights.astype(np.float64), grams, reduction)
    np.testing.assert_allclose(regmean(weights, grams, reduction=reduction), expected, rtol=1e-4, atol=1e-5)


def test_off_diagonal_entries_are_reduced_to_nine_tenths_by_default():
    weights, grams, _ = data(2)
    np.testing.assert_array_equal(regmean(weights, grams), regmean(weights, grams, reduction=0.9))


def test_without_reduction_it_is_the_least_squares_fit_to_all_outputs():
    weights, grams, x = data(3)
    outputs = np.concatenate([inputs @ w.T for inputs, w in zip(x, weights, strict=True)])
    expected = np.linalg.lstsq(np.concatenate(list(x)), outputs, rcond=None)[0].T
    np.testing.assert_allclose(regmean(weights, grams, reduction=1.0), expected, rtol=1e-4, atol=1e-5)


def test_weights_multiply_each_models_statistics():
    weights, grams, _ = data(4)
    expected = transcription(weights.astype(np.float64), grams, 0.9, [0.5, 2, 1])
    np.testing.assert_allclose(regmean(weights, grams, weight=[0.5, 2, 1]), expected, rtol=1e-4, atol=1e-5)


def test_statistics_of_the_other_axis_are_refused():
    weights, grams, _ = data(6)
    with pytest.raises(ParameterError, match="4 inputs"):
        regmean(np.ascontiguousarray(weights.transpose(0, 2, 1)), grams)


def test_equal_statistics_give_the_mean():
    weights, grams, _ = data(7)
    np.testing.assert_allclose(regmean(weights, np.stack([grams[0]] * 3)), weights.mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reduction", [0.9, 1.0])
def test_equal_models_are_a_fixed_point_whatever_the_statistics(reduction):
    weights, grams, _ = data(8)
    equal = np.stack([weights[0]] * 3)
    np.testing.assert_allclose(regmean(equal, grams, reduction=reduction), weights[0], rtol=1e-6)


def test_inputs_that_no_model_saw_take_the_mean():
    weights, grams, _ = data(9)
    grams[:, 2, :] = grams[:, :, 2] = 0
    found = regmean(weights, grams)
    np.testing.assert_allclose(found[:, 2], weights[:, :, 2].mean(0), rtol=1e-5, atol=1e-6)
    seen = [0, 1, 3, 4, 5]
    expected = transcription(weights[:, :, seen].astype(np.float64), grams[:, seen][:, :, seen], 0.9)
    np.testing.assert_allclose(found[:, seen], expected, rtol=1e-4, atol=1e-5)


def test_fewer_samples_than_inputs_still_fit_every_models_outputs():
    weights, grams, x = data(10, models=2, inputs=12, samples=4)
    found = regmean(weights, grams, reduction=1.0)
    for inputs, w in zip(x, weights, strict=True):
        np.testing.assert_allclose(inputs @ found.T, inputs @ w.T, rtol=1e-2, atol=1e-2)


def test_statistics_of_nothing_give_the_mean():
    weights, grams, _ = data(11)
    np.testing.assert_allclose(regmean(weights, grams * 0), weights.mean(0), rtol=1e-5, atol=1e-6)


def test_statistics_that_are_no_inner_products_are_refused():
    weights, grams, _ = data(12)
    with pytest.raises(ParameterError, match="negative eigenvalue"):
        regmean(weights, -grams)


def test_what_is_no_number_stays_visible():
    weights, grams, _ = data(13)
    grams[1, 0, 0] = np.nan
    assert np.isnan(regmean(weights, grams)).all()


def test_vectors_get_the_weighted_mean():
    found = regmean([[1.0, 4.0], [3.0, 0.0]], np.zeros((2, 1, 1)), weight=[3, 1])
    assert found.tolist() == [1.5, 3.0]


def test_models_that_all_have_weight_zero_count_alike():
    weights, grams, _ = data(14)
    np.testing.assert_array_equal(regmean(weights, grams, weight=0), regmean(weights, grams))
    assert regmean([[1.0], [3.0]], np.zeros((2, 1, 1)), weight=0).tolist() == [2.0]


def test_regmean_plus_plus_is_another_name_of_it():
    assert find_method("regmean_plus_plus") is find_method("regmean")
