from __future__ import annotations

import pytest
import torch

from merging.methods.apply import merge_tensor


def transcription(models, weights):
    """The running model after each newcomer, in float64."""
    state = models[0].double()
    for x, weight in zip(models[1:], weights[1:], strict=True):
        state = (1 - weight) * state + weight * x.double()
    return state


def models(count, n=30):
    return torch.randn(count, n, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weights", [[0.1], [0.3, 0.2], [0.9, 0.1, 0.5, 0.2], [0, 0, 0], [1, 1, 1], [0.5, 1, 0, 0.25]])
def test_every_average_is_that_of_the_steps(weights):
    x = models(len(weights))
    assert torch.allclose(merge_tensor("moving_average", x, weight=weights).double(), transcription(x, weights))


def test_a_tenth_is_the_default():
    x = models(4)
    assert torch.allclose(merge_tensor("moving_average", x).double(), transcription(x, [0.1] * 4))


def test_the_last_result_and_a_newcomer_are_one_more_step():
    x = models(4)
    before = merge_tensor("moving_average", x[:3], weight=0.2)
    after = merge_tensor("moving_average", [before, x[3]], weight=0.2)
    assert torch.allclose(after, merge_tensor("moving_average", x, weight=0.2), atol=1e-6)


def test_weights_of_one_over_the_count_give_the_mean():
    x = models(5)
    shares = [1 / i for i in range(1, 6)]
    assert torch.allclose(merge_tensor("moving_average", x, weight=shares), x.mean(0), atol=1e-6)


def test_the_first_models_weight_has_no_meaning():
    x = models(3)
    first, other = (merge_tensor("moving_average", x, weight=[share, 0.2, 0.2]) for share in (0.0, 0.9))
    assert torch.equal(first, other)


def test_the_order_matters():
    x = models(3)
    assert not torch.allclose(merge_tensor("moving_average", x.flip(0)), merge_tensor("moving_average", x))


def test_equal_models_come_back_bit_for_bit():
    x = models(1)[0]
    assert torch.equal(merge_tensor("moving_average", [x, x, x], weight=0.3), x)
