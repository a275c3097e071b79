from __future__ import annotations

from math import acos, sin, sqrt

import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor


def transcription(x, y, weights):
    """mergekit's figures, in float64 and plain loops."""
    total = sum(weights)
    t = 0.5 if abs(total) < 1e-6 else weights[1] / total
    lengths = [max(sqrt(sum(v * v for v in vector)), 1e-7) for vector in (x, y)]
    cosine = sum((a / lengths[0]) * (b / lengths[1]) for a, b in zip(x, y, strict=True))
    cosine = min(1.0, max(-1.0, cosine))
    if 1 - cosine**2 <= 1e-16:
        return [(1 - t) * a + t * b for a, b in zip(x, y, strict=True)]
    theta = acos(cosine)
    first, second = sin((1 - t) * theta) / sin(theta), sin(t * theta) / sin(theta)
    return [first * a + second * b for a, b in zip(x, y, strict=True)]


def pair(change, n=60):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, generator=generator)
    return torch.stack([x, 2 * x + change * torch.randn(n, generator=generator)])


@pytest.mark.parametrize("change", [0.001, 0.03, 0.5, 3.0, 100.0])
@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [0, 2], [2, 0], [1, -0.4], [1, -1], [-1, -3], [0, 0]])
def test_the_arc_is_that_of_the_transcription(change, weights):
    x = pair(change)
    expected = torch.tensor(transcription(*x.tolist(), weights))
    assert torch.allclose(merge_tensor("nuslerp", x, weight=weights), expected, rtol=1e-5, atol=1e-5 * (1 + change))


@pytest.mark.parametrize("change", [0.1, 3.0])
def test_with_a_base_model_the_task_vectors_are_turned(change):
    x = pair(change)
    base = torch.randn(60, generator=torch.Generator().manual_seed(1))
    turned = transcription(*(x - base).tolist(), [1, 2])
    expected = torch.tensor(turned) + base
    assert torch.allclose(merge_tensor("nuslerp", x, base, weight=[1, 2]), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-12, -1.0, 1.0])
def test_zero_opposite_and_equal_tensors_are_those_of_the_transcription(scale):
    x = pair(0.0)[0]
    expected = torch.tensor(transcription(x.tolist(), (x * scale).tolist(), [0.7, 0.3]))
    assert torch.allclose(merge_tensor("nuslerp", [x, x * scale], weight=[0.7, 0.3]), expected, atol=1e-6)


def test_angles_too_small_for_float32_still_bend():
    x = torch.tensor([[1.0, 0.0], [1.0, 1e-5]])
    assert merge_tensor("nuslerp", x, weight=1).tolist() == pytest.approx([1.0, 0.5e-5], rel=1e-6)


def test_a_task_vector_of_zeros_is_at_a_right_angle():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    expected = x[0] * sin(0.25 * 3.141592653589793)
    assert torch.allclose(merge_tensor("nuslerp", x, torch.zeros(2), weight=1), expected)


def test_equal_models_come_back_bit_for_bit():
    x = pair(1.0)[0]
    assert torch.equal(merge_tensor("nuslerp", [x, x], weight=[0.3, 0.6]), x)


def test_without_flattening_every_row_has_its_own_angle():
    x = pair(1.0).reshape(2, 6, 10)
    expected = torch.tensor([transcription(a, b, [1, 2]) for a, b in zip(*x.tolist(), strict=True)])
    found = merge_tensor("nuslerp", x, weight=[1, 2], nuslerp_flatten=False)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(merge_tensor("nuslerp", x, weight=[1, 2]), expected, atol=1e-5)


def test_a_third_model_is_refused():
    with pytest.raises(ParameterError, match="nuslerp cannot merge 3 models"):
        merge_tensor("nuslerp", torch.ones(3, 2), weight=1)


def test_weights_are_required():
    with pytest.raises(ParameterError, match="nuslerp needs a value for weight"):
        merge_tensor("nuslerp", torch.ones(2, 2))
