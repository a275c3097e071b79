from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor


def transcription(x, information, weights, floor):
    result = np.zeros(x.shape[1])
    for k in range(x.shape[1]):
        shares = [weight * (row[k] + floor) for weight, row in zip(weights, information, strict=True)]
        result[k] = sum(share * row[k] for share, row in zip(shares, x, strict=True)) / sum(shares)
    return result


def fisher(x, information, **parameters):
    return merge_tensor("fisher", torch.as_tensor(x), companions={"fisher": torch.as_tensor(information)}, **parameters)


def models_and_information(models, scale=1.0):
    generator = np.random.default_rng(models)
    x = generator.standard_normal((models, 101)).astype(np.float32)
    return x, (generator.standard_normal((models, 101)) ** 2 * scale).astype(np.float32)


@pytest.mark.parametrize("models", [1, 2, 5])
@pytest.mark.parametrize("floor", [0.0, 1e-6, 0.1])
@pytest.mark.parametrize("scale", [1.0, 1e-7])
def test_the_paper(models, floor, scale):
    x, information = models_and_information(models, scale)
    weights = [1, 0.5, 2, 0, 1][:models]
    expected = transcription(x.astype(np.float64), information.astype(np.float64), weights, floor)
    np.testing.assert_allclose(fisher(x, information, weight=weights, floor=floor), expected, rtol=1e-4, atol=1e-6)


def test_the_defaults_are_equal_weights_and_a_millionth():
    x, information = models_and_information(3, 1e-6)
    expected = transcription(x.astype(np.float64), information.astype(np.float64), [1] * 3, 1e-6)
    np.testing.assert_allclose(fisher(x, information), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("floor", [0.0, 1e-6])
def test_entries_that_matter_to_no_model_are_averaged(floor):
    assert fisher([[1.0, 0.0], [4.0, 2.0]], torch.zeros(2, 2), floor=floor, weight=[1, 2]).tolist() == pytest.approx(
        [3, 4 / 3]
    )


def test_equal_information_is_the_plain_mean():
    x, _ = models_and_information(4)
    linear = merge_tensor("linear", torch.from_numpy(x))
    assert torch.allclose(fisher(x, np.ones_like(x)), linear, atol=1e-6)


def test_only_the_model_to_which_an_entry_matters_decides():
    assert fisher([[1.0], [5.0]], [[0.0], [1e6]])[0] == pytest.approx(5.0)


def test_equal_models_stay_what_they_are_bit_for_bit():
    x, information = models_and_information(3)
    same = torch.from_numpy(x[:1]).expand(3, -1)
    assert torch.equal(fisher(same, information), same[0])


def test_information_may_be_stored_in_fewer_bits():
    x, information = models_and_information(2)
    short = torch.from_numpy(information).bfloat16()
    assert torch.equal(fisher(x, short), fisher(x, short.float()))


@pytest.mark.parametrize("weights", [[0, 0], [1, -0.5]])
def test_weights_without_a_mean_are_refused(weights):
    with pytest.raises(ParameterError, match="there is no mean with weights") as caught:
        fisher([[1.0], [2.0]], [[1.0], [1.0]], weight=weights)
    assert caught.value.must_be


def test_information_is_required():
    with pytest.raises(ParameterError, match="companions"):
        merge_tensor("fisher", torch.ones(2, 3))
