from __future__ import annotations

from math import acos, sin, sqrt

import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor


def transcription(x, y, t):
    """mergekit's figures, in float64 and plain loops."""
    norms = [sqrt(sum(v * v for v in vector)) for vector in (x, y)]
    norms = [norm if norm > 1e-8 else 1.0 for norm in norms]
    dot = sum((a / norms[0]) * (b / norms[1]) for a, b in zip(x, y, strict=True))
    if abs(dot) > 0.9995:
        return [(1 - t) * a + t * b for a, b in zip(x, y, strict=True)]
    theta = acos(dot)
    first, second = sin((1 - t) * theta) / sin(theta), sin(t * theta) / sin(theta)
    return [first * a + second * b for a, b in zip(x, y, strict=True)]


def pair(change, n=60):
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(n, generator=generator)
    return base, base + change * torch.randn(n, generator=generator)


@pytest.mark.parametrize("change", [0.001, 0.03, 0.5, 3.0, 100.0])
@pytest.mark.parametrize("t", [-0.3, 0.0, 0.2, 0.5, 1.0, 1.7])
def test_the_arc_is_that_of_the_transcription(change, t):
    base, tuned = pair(change)
    expected = torch.tensor(transcription(base.tolist(), tuned.tolist(), t))
    assert torch.allclose(merge_tensor("slerp", tuned[None], base, t=t), expected, rtol=1e-5, atol=1e-5 * change)


@pytest.mark.parametrize("scale", [0.0, 1e-12, -1.0, 1.0])
def test_zero_opposite_and_equal_tensors_are_those_of_the_transcription(scale):
    base = pair(0.0)[0]
    expected = torch.tensor(transcription(base.tolist(), (base * scale).tolist(), 0.3))
    assert torch.allclose(merge_tensor("slerp", base[None] * scale, base, t=0.3), expected, atol=1e-6)


def test_the_base_model_is_where_t_is_zero():
    base, tuned = pair(2.0)
    assert torch.equal(merge_tensor("slerp", tuned[None], base, t=0.0), base)
    assert torch.allclose(merge_tensor("slerp", tuned[None], base, t=1.0), tuned, atol=1e-6)


def test_a_fraction_is_required():
    with pytest.raises(ParameterError, match="slerp needs a value for t"):
        merge_tensor("slerp", torch.ones(1, 2), torch.ones(2))
