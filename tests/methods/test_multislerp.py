from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor


def transcription(models, weights, normalize=True, eps=1e-8):
    """mergekit's steps in float64, with the tangent plane and the exponential map."""
    x = [np.asarray(each, dtype=np.float64) for each in models]
    if len(x) == 1:
        return x[0]
    shares = [weight / sum(weights) for weight in weights] if normalize else weights
    lengths = [np.sqrt(sum(v * v for v in each)) for each in x]
    units = [each / (length + eps) for each, length in zip(x, lengths, strict=True)]
    mean = sum(share * unit for share, unit in zip(shares, units, strict=True))
    if np.linalg.norm(mean) < eps:
        return sum(share * each for share, each in zip(shares, x, strict=True))
    mean = mean / np.linalg.norm(mean)
    tangent = sum(share * (unit - (unit @ mean) * mean) for share, unit in zip(shares, units, strict=True))
    angle = np.linalg.norm(tangent) + eps
    turned = np.cos(angle) * mean + np.sin(angle) / angle * tangent
    return turned * sum(share * length for share, length in zip(shares, lengths, strict=True))


def models(count, change, n=40):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(0.5, 2, count)[:, None]
    return (torch.randn(n, generator=generator) + change * torch.randn(count, n, generator=generator)) * lengths


@pytest.mark.parametrize("weights", [[1], [2, 1], [1, 0], [1, 1, 1], [0.2, 0.7, 1.5], [1, -0.3, 0.5], [-1, -2, -1]])
@pytest.mark.parametrize("change", [0.001, 0.3, 10.0])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("eps", [1e-8, 0.0, 0.1])
def test_every_mean_is_that_of_the_transcription(weights, change, normalize, eps):
    x = models(len(weights), change)
    expected = torch.tensor(transcription(x.numpy(), weights, normalize, max(eps, 1e-30)))
    found = merge_tensor("multislerp", x, weight=weights, normalize_weights=normalize, eps=eps)
    size = float(expected.abs().max())
    # cos(eps) is 1 in ours.
    assert torch.allclose(found.double() * (np.cos(eps) if len(x) > 1 else 1), expected, rtol=1e-5, atol=1e-5 * size)


def test_with_a_base_model_the_task_vectors_are_averaged():
    x = models(3, 1.0)
    base = torch.randn(40, generator=torch.Generator().manual_seed(1))
    expected = torch.tensor(transcription((x - base).numpy(), [1, 2, 3])) + base
    assert torch.allclose(merge_tensor("multislerp", x, base, weight=[1, 2, 3]).double(), expected, atol=1e-5)


@pytest.mark.parametrize("count", [2, 4])
def test_directions_that_cancel_give_the_plain_weighted_mean(count):
    x = torch.tensor([[3.0, 4.0], [-6.0, -8.0]] * (count // 2))
    assert torch.allclose(merge_tensor("multislerp", x, weight=1), torch.tensor([-1.5, -2.0]))


@pytest.mark.parametrize("eps", [1e-8, 0.0])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_task_vectors_of_zeros_leave_the_base_model(count, eps):
    base = torch.tensor([1.0, 2.0])
    assert torch.equal(merge_tensor("multislerp", base.expand(count, 2), base, weight=1, eps=eps), base)


def test_a_task_vector_of_zeros_shortens_and_does_not_turn():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert torch.allclose(merge_tensor("multislerp", x, torch.zeros(2), weight=1), x[0] / 2)


def test_equal_models_come_back():
    x = models(1, 1.0)[0]
    assert torch.allclose(merge_tensor("multislerp", [x, x, x], weight=[1, 2, 4]), x, rtol=1e-6)


@pytest.mark.parametrize("weights", [[1, -1], [0, 0, 0], [0.1, 0.2, -0.3]])
def test_weights_that_cancel_are_refused_with_their_values(weights):
    with pytest.raises(ParameterError, match="multislerp cannot share by the weights") as caught:
        merge_tensor("multislerp", models(len(weights), 1.0), weight=weights)
    assert caught.value.must_be
    assert caught.value.fix


def test_weights_are_required():
    with pytest.raises(ParameterError, match="multislerp needs a value for weight"):
        merge_tensor("multislerp", torch.ones(2, 2))
