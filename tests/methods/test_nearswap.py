from __future__ import annotations

import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor


def transcription(base, other, t):
    """mergekit's figures, in float64."""
    merged = []
    for b, x in zip(base, other, strict=True):
        weight = min(1.0, max(0.0, t / max(abs(b - x), 1e-6)))
        merged.append(weight * x + (1 - weight) * b)
    return merged


def pair(change=1.0, n=60):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, generator=generator), change * torch.randn(n, generator=generator)


@pytest.mark.parametrize("change", [1e-7, 1e-3, 1.0])
@pytest.mark.parametrize("t", [0.0, 1e-8, 5e-7, 1e-6, 1e-4, 0.3, 10.0])
def test_every_swap_is_that_of_the_transcription(change, t):
    _, task_vector = pair(change)
    expected = torch.tensor(transcription([0.0] * 60, task_vector.tolist(), t))
    found = merge_tensor("nearswap", task_vector[None], torch.zeros(60), t=t)
    assert torch.allclose(found, expected, rtol=1e-5, atol=0)


def test_the_base_model_is_where_t_is_zero_and_the_other_where_it_is_large():
    base, change = pair()
    assert torch.equal(merge_tensor("nearswap", (base + change)[None], base, t=0), base)
    assert torch.allclose(merge_tensor("nearswap", (base + change)[None], base, t=100), base + change, atol=1e-6)


def test_no_entry_moves_by_more_than_t():
    base, change = pair()
    moved = merge_tensor("nearswap", (base + change)[None], base, t=0.25) - base
    assert float(moved.abs().max()) == pytest.approx(0.25, rel=1e-5)
    assert torch.equal(moved.sign(), change.sign())


@pytest.mark.parametrize("t", [-0.1, "near"])
def test_a_length_below_zero_is_refused(t):
    with pytest.raises(ParameterError, match="t cannot be"):
        merge_tensor("nearswap", torch.ones(1, 2), torch.ones(2), t=t)


def test_a_length_is_required():
    with pytest.raises(ParameterError, match="nearswap needs a value for t"):
        merge_tensor("nearswap", torch.ones(1, 2), torch.ones(2))
