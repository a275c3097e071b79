from __future__ import annotations

from math import acos, sin, sqrt

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor


def arc(x, y, weights):
    """mergekit's figures for two vectors, in float64 and plain loops."""
    total = sum(weights)
    t = 0.5 if abs(total) < 1e-6 else weights[1] / total
    lengths = [max(sqrt(sum(v * v for v in vector)), 1e-7) for vector in (x, y)]
    cosine = sum((a / lengths[0]) * (b / lengths[1]) for a, b in zip(x, y, strict=True))
    cosine = min(1.0, max(-1.0, cosine))
    if 1 - cosine**2 <= 1e-16:
        return (1 - t) * x + t * y
    theta = acos(cosine)
    return sin((1 - t) * theta) / sin(theta) * x + sin(t * theta) / sin(theta) * y


def transcription(models, weights, axis):
    """Every vector along one axis by itself."""
    x, y = (np.moveaxis(each, axis, -1) for each in models.astype(np.float64))
    merged = np.empty(x.shape)
    for place in np.ndindex(x.shape[:-1]):
        merged[place] = arc(x[place], y[place], weights)
    return np.moveaxis(merged, -1, axis)


def pair(*shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    return torch.stack([x, x + torch.randn(shape, generator=generator)])


@pytest.mark.parametrize("shape", [(9,), (5, 7), (1, 6), (6, 1), (3, 4, 5), (2, 3, 2, 3)])
@pytest.mark.parametrize("row_wise, axis", [(False, -1), (True, 0)])
@pytest.mark.parametrize("weights", [[1, 1], [1, 3], [1, -0.4], [1, -1]])
def test_every_vector_is_that_of_the_transcription(shape, row_wise, axis, weights):
    x = pair(*shape)
    found = merge_tensor("nuslerp_axes", x, weight=weights, nuslerp_row_wise=row_wise)
    np.testing.assert_allclose(found, transcription(x.numpy(), weights, axis), rtol=1e-5, atol=1e-5)


def test_with_a_base_model_the_task_vectors_are_turned():
    x, base = pair(4, 6), torch.ones(4, 6)
    expected = transcription((x - base).numpy(), [1, 2], -1) + 1
    np.testing.assert_allclose(merge_tensor("nuslerp_axes", x, base, weight=[1, 2]), expected, atol=1e-5)


@pytest.mark.parametrize("row_wise", [False, True])
def test_tensors_larger_than_what_is_multiplied_at_once_are_merged_alike(row_wise):
    x = pair(700, 150)
    found = merge_tensor("nuslerp_axes", x, weight=[1, 2], nuslerp_row_wise=row_wise)
    rows = x.transpose(1, 2) if row_wise else x
    part = merge_tensor("nuslerp_axes", rows[:, 100:110].contiguous(), weight=[1, 2])
    assert torch.allclose((found.T if row_wise else found)[100:110], part, atol=1e-6)


def test_a_row_of_zeros_leaves_the_others_alone():
    x = pair(3, 8)
    whole = merge_tensor("nuslerp_axes", x, weight=1)
    x[1, 1] = 0
    found = merge_tensor("nuslerp_axes", x, weight=1)
    assert torch.equal(found[[0, 2]], whole[[0, 2]])
    assert torch.allclose(found[1], x[0, 1] * sin(3.141592653589793 / 4))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 3)])
def test_a_number_and_nothing_merge(shape):
    for row_wise in (False, True):
        x = torch.ones(2, *shape)
        assert torch.equal(merge_tensor("nuslerp_axes", x, weight=1, nuslerp_row_wise=row_wise), x[0])
