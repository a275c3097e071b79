from __future__ import annotations

import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor


def models(count=3, n=50):
    return torch.randn(count, n, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weights", [[1, 1, 1], [0.2, -0.7, 1.5], [0, 0, 2]])
def test_the_mean_is_weighted(weights):
    x = models().double()
    reference = sum(w * row for w, row in zip(weights, x, strict=True)) / sum(weights)
    assert torch.allclose(merge_tensor("linear", models(), weight=weights).double(), reference, atol=1e-6)


def test_without_normalising_the_sum_is_plain():
    found = merge_tensor("linear", models(), weight=[2, -1, 0], normalize=False)
    assert torch.allclose(found, 2 * models()[0] - models()[1], atol=1e-6)


def test_average_is_another_name():
    assert torch.equal(merge_tensor("average", models()), merge_tensor("linear", models()))


def test_equal_models_come_back_bit_for_bit():
    x = models(1)[0]
    assert torch.equal(merge_tensor("linear", [x, x, x], weight=[0.1, 0.2, 0.4]), x)


@pytest.mark.parametrize("weights", [[1, -1, 0], [0, 0, 0], [0.1, 0.2, -0.3]])
def test_weights_that_cancel_are_refused_with_their_values(weights):
    with pytest.raises(ParameterError, match="linear cannot average with weights") as caught:
        merge_tensor("linear", models(), weight=weights)
    assert caught.value.must_be
    assert caught.value.fix
