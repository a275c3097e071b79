from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.algebra.sparsify import (
    coarse_magnitudes,
    fine_magnitudes,
    keep_band,
    keep_largest,
    mass_ratio,
    masses,
    order_statistics,
)

SUBNORMAL = float(np.float32(1e-45))
FLOATS = st.one_of(
    st.floats(width=32, allow_nan=False),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, SUBNORMAL, -SUBNORMAL, float("inf"), -float("inf")]),
)
FAMILIES = st.integers(1, 3).flatmap(
    lambda models: st.integers(1, 20).flatmap(
        lambda n: st.lists(st.lists(FLOATS, min_size=n, max_size=n), min_size=models, max_size=models)
    )
)


def statistics(blocks, ranks):
    coarse = sum(coarse_magnitudes(block) for block in blocks)
    fine = sum(fine_magnitudes(block, coarse, ranks) for block in blocks)
    return order_statistics(coarse, fine, ranks)


def same(found, expected):
    return torch.equal(found.nan_to_num(nan=-1.0), expected.nan_to_num(nan=-1.0))


@settings(max_examples=30)
@given(family=FAMILIES, data=st.data())
def test_every_rank_is_exact_whatever_the_cuts(family, data):
    x = torch.tensor(family, dtype=torch.float32)
    n = x.shape[1]
    cut = data.draw(st.integers(0, n))
    ranks = torch.tensor([[data.draw(st.integers(1, n)), data.draw(st.integers(1, n))] for _ in family])
    expected = x.abs().sort(1).values.gather(1, ranks - 1)
    assert same(statistics([x[:, :cut], x[:, cut:]], ranks), expected)


def test_ranks_of_a_large_tensor_are_exact():
    x = torch.randn(2, 100_000, generator=torch.Generator().manual_seed(0)) * 1e-3
    ranks = torch.tensor([[80_000, 99_000], [1, 100_000]])
    expected = x.abs().sort(1).values.gather(1, ranks - 1)
    assert same(statistics(x.split(30_000, 1), ranks), expected)


def test_ranks_outside_lie_below_and_above_every_magnitude():
    x = torch.tensor([[0.0, float("inf")]])
    found = statistics([x], torch.tensor([[0, 3, 7]]))
    assert found[0, 0] == 0
    assert found[0, 1:].isnan().all()


def test_not_a_number_ranks_above_infinity():
    x = torch.tensor([[float("nan"), 1.0, float("inf"), -float("nan")]])
    found = statistics([x], torch.tensor([[1, 2, 3, 4]]))
    assert found[0, :2].tolist() == [1.0, float("inf")]
    assert found[0, 2:].isnan().all()


@pytest.mark.parametrize("shape", [(2,), (2, 0), (2, 3, 4)])
def test_any_shape_is_counted_as_its_entries(shape):
    counts = coarse_magnitudes(torch.ones(shape))
    assert counts.shape == (2, (1 << 15) + 1)
    assert counts[:, -1].tolist() == [torch.ones(shape)[0].numel()] * 2


def test_cumulative_counts_of_nothing_are_zero():
    nothing = torch.zeros(2, 0)
    coarse = coarse_magnitudes(torch.ones(2, 5))
    assert not coarse_magnitudes(nothing).any()
    assert not fine_magnitudes(nothing, coarse, torch.tensor([[1], [2]])).any()


def test_ranks_that_need_no_threshold_cost_no_counting():
    x = torch.ones(1, 5)
    assert not fine_magnitudes(x, coarse_magnitudes(x), torch.tensor([[0, 6]])).any()


@settings(max_examples=30)
@given(family=FAMILIES, threshold=st.floats(0, width=32))
def test_what_reaches_the_threshold_is_kept_and_the_rest_is_zero(family, threshold):
    x = torch.tensor(family, dtype=torch.float32)
    kept = keep_largest(x, torch.full((len(x),), threshold))
    assert torch.equal(kept, torch.where(x.abs() >= threshold, x, torch.zeros(())))


def test_a_threshold_that_is_not_a_number_keeps_nothing_but_such_entries():
    x = torch.tensor([[1.0, float("inf"), float("nan")]])
    kept = keep_largest(x, torch.tensor([float("nan")]))
    assert kept[0, :2].tolist() == [0, 0]
    assert kept[0, 2].isnan()


@settings(max_examples=30)
@given(family=st.lists(st.lists(st.floats(-8, 8, width=16), min_size=6, max_size=6), min_size=1, max_size=3))
def test_a_band_keeps_both_its_ends(family):
    x = torch.tensor(family, dtype=torch.float32)
    low, high = x.abs().sort(1).values[:, 1], x.abs().sort(1).values[:, 4]
    inside = (x.abs() >= low[:, None]) & (x.abs() <= high[:, None])
    assert torch.equal(keep_band(x, low, high), torch.where(inside, x, torch.zeros(())))


def test_a_band_without_an_upper_end_keeps_the_largest():
    x = torch.tensor([[1.0, -3.0, float("inf")]])
    assert keep_band(x, torch.tensor([2.0]), torch.tensor([float("nan")])).tolist() == [[0, -3.0, float("inf")]]


def test_an_infinite_outlier_stays_visible():
    assert keep_band(torch.tensor([[float("inf")]]), torch.tensor([0.0]), torch.tensor([1.0])).isnan().all()


def test_nothing_kept_is_rescaled_by_one():
    x = torch.tensor([[1.0, -3.0], [0.0, 0.0]])
    assert mass_ratio(masses(x, x * torch.tensor([0.0, 1.0]))).tolist() == [4 / 3, 1.0]
