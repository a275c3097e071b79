from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor


def transcription(models, max_iter=10, tol=1e-5):
    """mergekit's steps on the vectors themselves, in float64."""
    models = [np.asarray(x, dtype=np.float64) for x in models]
    if len(models) == 1:
        return models[0]
    lengths = [np.sqrt(sum(v * v for v in x)) for x in models]
    units = [x / length for x, length in zip(models, lengths, strict=True) if length > tol]
    if not units:
        return np.zeros_like(models[0])
    mean = sum(units) / len(units)
    mean = units[0] if np.linalg.norm(mean) < tol else mean / np.linalg.norm(mean)
    for _ in range(max_iter):
        step = np.zeros_like(mean)
        for unit in units:
            cosine = min(1.0, max(-1.0, float(mean @ unit)))
            theta = np.arccos(cosine)
            if np.sin(theta) > tol:
                step += theta / np.sin(theta) * (unit - cosine * mean) / len(units)
        length = np.linalg.norm(step)
        if length < tol:
            break
        mean = np.cos(length) * mean + np.sin(length) * step / length
        mean /= np.linalg.norm(mean)
    return mean * sum(lengths) / len(lengths)


def models(count, change, n=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.linspace(0.5, 2, count)[:, None]
    return (torch.randn(n, generator=generator) + change * torch.randn(count, n, generator=generator)) * lengths


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("change", [0.001, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("max_iter, tol", [(10, 1e-5), (1, 1e-5), (2, 1e-8), (10, 1e-3 / 2)])
def test_the_mean_is_that_of_the_transcription(count, change, max_iter, tol):
    x = models(count, change)
    expected = torch.tensor(transcription(x.numpy(), max_iter, tol))
    found = merge_tensor("karcher", x, max_iter=max_iter, tol=tol)
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-6 * float(x.abs().max()))


def test_the_angles_pull_evenly_at_the_mean():
    x = models(4, 1.0).double()
    found = merge_tensor("karcher", x, max_iter=100, tol=1e-12)
    u = found / found.norm()
    pull = torch.zeros_like(u)
    for unit in x / x.norm(dim=1, keepdim=True):
        theta = torch.acos(u @ unit)
        pull += theta / torch.sin(theta) * (unit - torch.cos(theta) * u)
    assert pull.norm() < 1e-5


def test_of_two_models_of_one_length_it_is_the_middle_of_the_arc():
    x = models(2, 5.0)
    x = x / x.norm(dim=1, keepdim=True)
    assert torch.allclose(merge_tensor("karcher", x), merge_tensor("slerp", x[1:], x[0], t=0.5), atol=1e-6)


def test_one_model_comes_back_whatever_its_length():
    x = models(1, 1.0)
    assert torch.equal(merge_tensor("karcher", x), x[0])
    assert torch.equal(merge_tensor("karcher", x * 1e-9), x[0] * 1e-9)


def test_equal_models_come_back_bit_for_bit():
    x = models(1, 1.0)[0]
    assert torch.equal(merge_tensor("karcher", [x, x, x]), x)


def test_a_models_length_counts_in_the_length_only():
    x = models(3, 1.0)
    longer = x * torch.tensor([[1.0], [1.0], [9.0]])
    before, after = merge_tensor("karcher", x), merge_tensor("karcher", longer)
    assert torch.allclose(before / before.norm(), after / after.norm(), atol=1e-6)
    assert float(after.norm()) == pytest.approx(float(longer.norm(dim=1).mean()), rel=1e-6)


def test_a_zero_model_shortens_and_does_not_turn():
    x = models(1, 1.0)[0]
    assert torch.allclose(merge_tensor("karcher", [x, torch.zeros_like(x)]), x / 2)


def test_models_that_are_all_too_short_give_zero():
    assert not merge_tensor("karcher", models(3, 1.0) * 1e-8).any()


def test_opposite_models_give_the_first_direction():
    x = models(1, 1.0)[0]
    assert torch.allclose(merge_tensor("karcher", [x, -3 * x]), 2 * x)


def test_dependent_models_and_a_thousand_steps_stay_at_the_mean():
    x = models(2, 1.0)
    x = torch.stack([x[0], x[0], x[1], x[1], x[0] + x[1]])
    expected = torch.tensor(transcription(x.numpy(), 200, 1e-12))
    assert torch.allclose(merge_tensor("karcher", x, max_iter=1000, tol=0.0).double(), expected, atol=1e-5)
