from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor


def transcription(base, other):
    """mergekit's figures in float64, of all entries: which entries are the other model's."""
    rows = np.atleast_2d(base).reshape(-1, base.shape[-1]), np.atleast_2d(other).reshape(-1, base.shape[-1])
    importance = []
    for b, x in zip(*rows, strict=True):
        q, p = (np.exp(v - v.max()) / np.exp(v - v.max()).sum() + 1e-8 for v in (b, x))
        divergence = sum(p_i * np.log(p_i / q_i) for p_i, q_i in zip(p, q, strict=True))
        importance.append(np.abs(x - b) * divergence)
    importance = np.stack(importance)
    ordered = np.sort(importance, axis=None)
    first, median, third = (ordered[int(share * (ordered.size - 1))] for share in (0.25, 0.5, 0.75))
    return (importance >= median + 1.5 * (third - first)).reshape(base.shape)


def pair(*shape, change=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=generator)
    return base, base + change * torch.randn(shape, generator=generator) ** 3


def fused(base, other):
    return merge_tensor("arcee_fusion", other[None], base)


@pytest.mark.parametrize("shape", [(5,), (64,), (6, 10), (1, 7), (40, 3), (3, 4, 5), (2, 3, 2, 6)])
@pytest.mark.parametrize("change", [1e-4, 0.3, 5.0])
def test_every_fusion_is_that_of_the_transcription(shape, change):
    for seed in range(3):
        base, other = pair(*shape, change=change, seed=seed)
        taken = transcription(base.double().numpy(), other.double().numpy())
        assert np.array_equal(fused(base, other), np.where(taken, other, base))


@pytest.mark.parametrize("shape", [(1, 300_000), (3000, 100)])
def test_all_entries_of_a_large_tensor_are_ranked(shape):
    base, other = pair(*shape)
    taken = transcription(base.double().numpy(), other.double().numpy())
    found = fused(base, other).numpy()
    wrong = found != np.where(taken, other, base)
    # An entry whose importance is the threshold but for float32's rounding may fall on either side.
    assert wrong.sum() <= 2


def test_entries_come_back_bit_for_bit():
    base, other = pair(30, 20)
    found = fused(base, other)
    assert ((found == base) | (found == other)).all()
    assert (found == other).any() and (found == base).any()


def test_equal_models_come_back():
    base, _ = pair(6, 10)
    assert torch.equal(fused(base, base), base)


@pytest.mark.parametrize("shape", [(), (1,), (5, 1)])
def test_where_rows_have_one_entry_the_other_model_is_taken(shape):
    base, other = torch.zeros(shape), torch.ones(shape)
    assert torch.equal(fused(base, other), other)


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)])
def test_nothing_merges_to_nothing(shape):
    assert fused(torch.zeros(shape), torch.ones(shape)).shape == shape


def test_a_change_that_is_no_number_stays_visible():
    base, other = pair(6, 10)
    other[2, 3] = torch.nan
    assert fused(base, other)[2, 3].isnan()
