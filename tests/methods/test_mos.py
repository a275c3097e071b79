from __future__ import annotations

import pytest
import torch

from merging.methods.apply import merge_tensor


def transcription(adapters, momenta):
    """Every merged adapter in turn, in float64; the last."""
    merged = [adapters[0].double()]
    for x, momentum in zip(adapters[1:], momenta[1:], strict=True):
        before = sum(merged) / len(merged)
        merged.append((1 - momentum) * x.double() + momentum * before)
    return merged[-1]


def adapters(count, n=30):
    return torch.randn(count, n, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("momenta", [[0.1], [0.1, 0.1], [0.9, 0.1, 0.5, 0.2, 0.3], [0, 0, 0], [1, 1, 1]])
def test_the_last_adapter_is_that_of_the_steps(momenta):
    x = adapters(len(momenta))
    assert torch.allclose(merge_tensor("mos", x, momentum=momenta).double(), transcription(x, momenta))


def test_a_tenth_is_the_default():
    x = adapters(6)
    assert torch.allclose(merge_tensor("mos", x).double(), transcription(x, [0.1] * 6))


def test_the_mean_is_of_adapters_that_were_merged_already():
    x = torch.tensor([[0.0], [8.0], [0.0]])
    assert merge_tensor("mos", x, momentum=0.5).tolist() == [1.0]


def test_the_first_adapter_is_taken_as_it_is():
    x = adapters(1)
    assert torch.equal(merge_tensor("mos", x, momentum=0.7), x[0])


def test_without_momentum_it_is_the_last_adapter():
    x = adapters(3)
    assert torch.allclose(merge_tensor("mos", x, momentum=0.0), x[-1], atol=1e-6)


def test_equal_adapters_come_back():
    x = adapters(1)[0]
    assert torch.equal(merge_tensor("mos", [x, x, x, x], momentum=0.3), x)
