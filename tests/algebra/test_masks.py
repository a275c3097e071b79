from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.algebra.masks import (
    balances,
    by_rank,
    conflict,
    keep_by_rank,
    row_blocks,
    sorted_magnitudes,
    tall_mask,
    variance,
)
from merging.algebra.randomness import Place
from merging.algebra.signs import agreeing_weights, disjoint_max, disjoint_mean, disjoint_sum, elect_sign
from merging.algebra.sparsify import keep_above

FLOATS = st.one_of(st.floats(width=32, allow_nan=False), st.sampled_from([0.0, -0.0, 1.0, -1.0, float("inf")]))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_mask_keeps_what_is_nearer_to_the_merged_vector_than_to_the_base():
    x, merged = random(300), random(300, seed=1)
    assert torch.equal(tall_mask(x, merged, torch.tensor(1.0)).bool(), x.abs() > (merged - x).abs())


def test_a_mask_at_threshold_zero_keeps_all_that_changed():
    assert tall_mask(torch.tensor([0.0, -1.0]), torch.tensor([5.0, 5.0]), torch.tensor(0.0)).tolist() == [0, 1]


def test_variances_are_those_of_float64():
    x = random(5, 300) * 1e-3 + 1
    expected = x.double().var(0, unbiased=False)
    assert torch.allclose(variance(x).double(), expected, rtol=1e-4)


@pytest.mark.parametrize("models", [1, 3, 7])
def test_equal_models_have_no_variance_at_all(models):
    assert not variance(random(1, 300).expand(models, -1)).any()


def test_conflicts_are_the_sums_over_pairs():
    x = random(4, 50)
    expected = sum(x[i].abs() * x[j].abs() for i in range(4) for j in range(i))
    assert torch.allclose(conflict(x), expected)


def test_one_model_has_no_conflict():
    assert not conflict(random(1, 50)).any()


def test_blocks_of_rows_cover_all_rows_once():
    for rows, columns in [(0, 5), (7, 1 << 17), (7, 1 << 20), (100_000, 3), (4, 0)]:
        found = [row for block in row_blocks(rows, columns) for row in range(block.start, block.stop)]
        assert found == list(range(rows))


@settings(max_examples=40)
@given(rows=st.lists(st.lists(FLOATS, min_size=6, max_size=6), min_size=1, max_size=4))
def test_rows_are_sorted_by_magnitude(rows):
    x = torch.tensor(rows, dtype=torch.float32)
    assert torch.equal(sorted_magnitudes(x), x.abs().sort(1).values)


@settings(max_examples=40)
@given(rows=st.lists(st.lists(FLOATS, min_size=6, max_size=6), min_size=1, max_size=4))
def test_values_go_to_the_entries_by_rank_and_equal_ones_in_their_order(rows):
    x = torch.tensor(rows, dtype=torch.float32)
    values = torch.arange(6.0)
    ranks = np.argsort(np.argsort(np.abs(x.numpy()), axis=1, kind="stable"), axis=1)
    assert by_rank(x, values).tolist() == ranks.tolist()


def test_sorting_leaves_the_entries_as_they_are():
    x = random(3, 50)
    before = x.clone()
    sorted_magnitudes(x)
    by_rank(x, torch.arange(50.0))
    assert torch.equal(x, before)


def test_survivors_are_the_same_for_any_cut_between_rows():
    x = random(2, 600, 700)
    bounds = [(0.2, 0.6), (0.5, 0.5)]
    whole = keep_by_rank(x, Place(3, "w", 700), bounds)
    parts = [
        keep_by_rank(x[:, :111], Place(3, "w", 700), bounds),
        keep_by_rank(x[:, 111:], Place(3, "w", 78_400), bounds),
    ]
    assert torch.equal(torch.cat(parts, 1), whole)


def test_a_chance_that_rounds_to_zero_is_not_divided_by():
    kept = keep_by_rank(torch.ones(1, 1, 50), Place(), [(1e-9, 0.5)], unbiased=True)
    assert kept.isfinite().all()


def test_balances_do_not_overflow_and_differ_from_the_formula_by_one_factor():
    x = random(100, 64)
    limits = torch.stack([x.abs().min(1).values, x.abs().max(1).values], 1)
    found, clamped = balances(x, limits, "vision")
    z = ((x.abs().double() - limits[:, :1]) / (limits[:, 1:] - limits[:, :1])) * x.sign()
    expected = (100 * (z**2 - 1)).exp() * (z[:, None] * z[None]).tanh().sum(1)
    assert torch.allclose(found.double(), expected, rtol=1e-3, atol=1e-12)
    assert torch.equal(clamped, x)


@pytest.mark.parametrize("variant", ["nlp", "vision"])
def test_a_model_with_equal_limits_has_no_balance(variant):
    found, clamped = balances(torch.tensor([[2.0, -2.0], [1.0, 3.0]]), torch.tensor([[2.0, 2.0], [1.0, 3.0]]), variant)
    assert found[0].tolist() == [0, 0]
    assert found[1].any()
    assert clamped.tolist() == [[2, -2], [1, 3]]


def test_the_largest_agreeing_entry_wins():
    x = random(5, 300)
    sign = elect_sign(x)
    expected = torch.where(sign > 0, x.max(0).values.clamp(min=0), x.min(0).values.clamp(max=0))
    assert torch.equal(disjoint_max(x, sign), expected)


def test_where_no_entry_agrees_the_largest_is_zero():
    assert disjoint_max(torch.tensor([[-1.0], [0.0]]), torch.ones(1)).tolist() == [0]


def test_the_disjoint_mean_is_the_sum_divided_by_the_agreeing_weights():
    weight = torch.tensor([[1.0], [0.5], [2.0]])
    x = random(3, 300) * weight
    sign = elect_sign(x)
    divided = disjoint_sum(x, sign) / agreeing_weights(x, sign, weight)
    assert torch.allclose(divided, disjoint_mean(x, sign, weight))


@settings(max_examples=30)
@given(
    rows=st.lists(st.lists(FLOATS, min_size=6, max_size=6), min_size=1, max_size=3), threshold=st.floats(0, width=32)
)
def test_what_exceeds_the_threshold_is_kept_and_the_rest_is_zero(rows, threshold):
    x = torch.tensor(rows, dtype=torch.float32)
    kept = keep_above(x, torch.full((len(x),), threshold))
    assert torch.equal(kept, torch.where(x.abs() > threshold, x, torch.zeros(())))


def test_a_threshold_that_is_not_a_number_is_exceeded_by_none():
    assert keep_above(torch.tensor([[1.0, -3e38]]), torch.tensor([float("nan")])).tolist() == [[0, 0]]
