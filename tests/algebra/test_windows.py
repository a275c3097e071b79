from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.algebra.sparsify import coarse_magnitudes
from merging.algebra.windows import (
    BEYOND,
    condense,
    list_magnitudes,
    listed_counts,
    listed_statistics,
    sample_weight,
    sampled_entries,
    sampled_ranges,
    windows,
)

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, -1e-45, 1e-39, 3e38, float("inf"), -float("inf"), float("nan")]
FLOATS = st.one_of(st.floats(width=32), st.sampled_from(SPECIAL))
ROWS = st.integers(1, 3).flatmap(
    lambda models: st.integers(1, 20).flatmap(
        lambda n: st.lists(st.lists(FLOATS, min_size=n, max_size=n), min_size=models, max_size=models)
    )
)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def bits_of(x):
    return x.view(torch.int32) & 0x7FFFFFFF


def in_order(x):
    return bits_of(x).sort(1).values.view(torch.float32)


def same(found, expected):
    return torch.equal(found.nan_to_num(nan=-2.0), expected.nan_to_num(nan=-2.0))


@pytest.mark.parametrize("entries", [0, 1, 5, 1 << 18, (1 << 19) - 1, 1 << 19, (1 << 21) + 77, (1 << 24) + 12345])
def test_a_sample_is_spread_over_the_tensor_and_stands_for_all_of_it(entries):
    ranges, weight = list(sampled_ranges(entries)), sample_weight(entries)
    assert sum(b - a for a, b in ranges) == sampled_entries(entries)
    assert all(0 <= a <= b <= entries for a, b in ranges)
    assert all(stop <= start for (_, stop), (start, _) in pairwise(ranges))
    assert entries <= sampled_entries(entries) * weight < entries + max(weight, 2)
    assert weight == 1 or len(ranges) >= 64


def test_the_places_of_chunks_repeat_in_no_row_length():
    starts = torch.tensor([a for a, _ in sampled_ranges(1 << 26)])
    for columns in (2048, 4096, 14336, 65536):
        places = (starts % columns).double() / columns
        found = torch.histc(places.float(), 8, 0, 1) / len(starts)
        assert (found - 1 / 8).abs().max() < 0.04


@settings(max_examples=60)
@given(rows=ROWS, data=st.data())
def test_a_rank_is_found_exactly_where_its_window_holds_it_and_nowhere_else(rows, data):
    x = torch.tensor(rows, dtype=torch.float32)
    n, cut = x.shape[1], data.draw(st.integers(0, x.shape[1]))
    ranks = torch.tensor([[data.draw(st.integers(0, n + 1)) for _ in range(2)] for _ in rows])
    bound = st.one_of(st.integers(1, BEYOND), st.sampled_from(bits_of(x).flatten().clamp(min=1).tolist()))
    ends = torch.tensor([[sorted([data.draw(bound), data.draw(bound)]) for _ in range(2)] for _ in rows])
    listed = torch.cat([list_magnitudes(x[:, :cut], ends), list_magnitudes(x[:, cut:], ends)], 1)
    found = listed_statistics(listed, ends, ranks)
    exact = in_order(x).gather(1, ranks.clamp(1, n) - 1)
    held = bits_of(exact)
    low, high = ends.unbind(-1)
    inside = ((held >= low) | ((held == 0) & (low == 1))) & (held < high)
    expected = torch.where(inside, exact, -1.0)
    expected = torch.where(ranks < 1, 0.0, torch.where(ranks > n, torch.nan, expected))
    assert same(found, expected)
    assert torch.equal(listed_counts(listed, ends[..., 0].numel())[:, 0], torch.full((ends[..., 0].numel(),), n))


@settings(max_examples=30)
@given(rows=ROWS, data=st.data())
def test_windows_of_all_entries_hold_every_rank(rows, data):
    x = torch.tensor(rows, dtype=torch.float32)
    n = x.shape[1]
    ranks = torch.tensor([[data.draw(st.integers(1, n)) for _ in range(3)] for _ in rows])
    coarse = coarse_magnitudes(x)
    ends = windows(coarse, coarse[:, -1], ranks)
    assert same(listed_statistics(list_magnitudes(x, ends), ends, ranks), in_order(x).gather(1, ranks - 1))
    assert ((ends[..., 1] - ends[..., 0]) <= 1 << 16).all()


@settings(max_examples=30)
@given(rows=ROWS, data=st.data())
def test_values_that_are_counted_apart_change_nothing(rows, data):
    x = torch.tensor(rows, dtype=torch.float32)
    low, high = sorted(data.draw(st.sampled_from([*bits_of(x).flatten().tolist(), BEYOND])) or 1 for _ in range(2))
    held = sorted({each for each in bits_of(x).flatten().tolist() if low <= each < high})
    apart = data.draw(st.lists(st.sampled_from(held), unique=True, max_size=3)) if held else []
    ends = torch.tensor([[[low, high]]]).expand(len(x), 1, 2)
    hinted = torch.tensor([[[low, high, *apart, BEYOND]]]).expand(len(x), 1, -1)
    assert torch.equal(condense(list_magnitudes(x, hinted)), condense(list_magnitudes(x, ends)))


def test_what_many_entries_share_is_counted_apart():
    x = torch.cat([normal(1, 10_000).clamp(-1, 1), torch.full((1, 500), 0.5)], 1)
    coarse = coarse_magnitudes(x)
    ends = windows(coarse, torch.tensor([len(x)]), torch.tensor([[5000]]))
    assert ends.shape == (1, 1, 6)
    assert bits_of(torch.tensor(0.5)) in ends[0, 0, 2:]
    assert ((ends[..., 2:] == BEYOND) | ((ends[..., 2:] >= ends[..., :1]) & (ends[..., 2:] < ends[..., 1:2]))).all()


@pytest.mark.parametrize("share", [1e-6, 0.01, 0.1, 0.5, 0.8, 0.99, 1.0])
def test_a_sample_of_rows_of_different_size_expects_the_rank_in_a_narrow_window(share):
    n = 1 << 21
    x = (normal(n // 512, 512) * (normal(n // 512, 1, seed=1) * 0.2).exp()).view(1, n)
    sample = torch.cat([x[:, a:b] for a, b in sampled_ranges(n)], 1)
    rank = torch.tensor([[max(1, int(share * n))]])
    ends = windows(coarse_magnitudes(sample) * sample_weight(n), torch.tensor([sample.shape[1]]), rank)
    listed = list_magnitudes(x, ends)
    assert same(listed_statistics(listed, ends, rank), in_order(x).gather(1, rank - 1))
    low, high = ends[0, 0, :2].tolist()
    assert int(((bits_of(x) >= low) & (bits_of(x) < high)).sum()) < 0.08 * n


def test_ranks_that_need_no_magnitude_have_no_window():
    coarse = coarse_magnitudes(normal(1, 50))
    ends = windows(coarse, coarse[:, -1], torch.tensor([[0, 51]]))
    assert (ends == BEYOND).all()
    assert condense(list_magnitudes(normal(1, 50), ends))[1].tolist() == [50, 50]


def test_zeros_are_counted_without_being_listed():
    x = torch.tensor([[0.0, 2.0, -0.0, 0.0]])
    ends = torch.tensor([[[1, 1], [1, BEYOND]]])
    listed = list_magnitudes(x, ends)
    assert listed_counts(listed, 2).tolist() == [[4, 3], [4, 3]]
    assert listed_statistics(listed, ends, torch.tensor([[2, 2]])).tolist() == [[0, 0]]


def test_equal_magnitudes_are_listed_once_with_their_number():
    x = torch.tensor([[0.25] * 1000 + [-0.25] * 500 + [0.5]])
    listed = list_magnitudes(x, torch.tensor([[[1, BEYOND]]]))
    assert condense(listed).tolist() == [bits_of(torch.tensor([0.25, 0.5])).tolist(), [1500, 1]]


def test_a_window_beyond_all_numbers_holds_infinity_and_what_is_not_a_number():
    x = torch.tensor([[1.0, float("inf"), -float("nan")]])
    ends = torch.tensor([[[0x7F800000, BEYOND]] * 2])
    found = listed_statistics(list_magnitudes(x, ends), ends, torch.tensor([[2, 3]]))
    assert found[0, 0] == float("inf") and found[0, 1].isnan()
