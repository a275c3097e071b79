from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.algebra.randomness import Place, keep_random, representable, uniform

N = 1 << 18
# Five standard deviations: a generator that errs fails by hundreds, a good one never, for the seed is fixed.
WIDE = 5


def numbers(n=N, model=0, **place):
    return uniform(Place(**place), model, torch.zeros(n))


@settings(max_examples=60)
@given(
    start=st.integers(0, 1 << 36),
    n=st.integers(1, 400),
    cuts=st.sets(st.integers(0, 400), max_size=5),
    model=st.integers(0, 9),
)
def test_numbers_are_the_same_however_a_tensor_is_cut(start, n, cuts, model):
    edges = [0, *sorted(cut for cut in cuts if cut < n), n]
    pieces = [numbers(b - a, model, seed=3, tensor="w", start=start + a) for a, b in pairwise(edges)]
    assert torch.equal(torch.cat(pieces), numbers(n, model, seed=3, tensor="w", start=start))


@pytest.mark.parametrize("before", [1, 2, 5, 64, 99])
@pytest.mark.parametrize("multiple", [1, 2, 7])
def test_nothing_happens_where_positions_pass_a_power_of_two(before, multiple):
    start = multiple * (1 << 33) - before
    whole = numbers(200, start=start)
    parts = [numbers(before, start=start), numbers(200 - before, start=start + before)]
    assert torch.equal(torch.cat(parts), whole)
    assert whole.unique().numel() > 190


@pytest.mark.parametrize("far", [1 << 32, 1 << 33, 1 << 34, (1 << 33) + 1])
def test_numbers_far_into_a_tensor_are_others(far):
    assert correlation(numbers(start=far), numbers()) < WIDE / N**0.5
    assert not windows(numbers(start=far)) & windows(numbers())


def test_an_odd_start_is_the_middle_of_a_hash():
    assert torch.equal(numbers(5, start=7), numbers(12)[7:])


@pytest.mark.parametrize(
    "model, place",
    [
        (0, {"seed": 1, "tensor": "layers.0"}),
        (0, {"seed": -1, "tensor": "layers.0"}),
        (1, {"tensor": "layers.0"}),
        (0, {"tensor": "layers.1"}),
        (0, {"tensor": ""}),
        (0, {"tensor": "layers.0", "start": 1}),
    ],
)
def test_seed_model_tensor_and_position_each_change_all_numbers(model, place):
    here, there = numbers(tensor="layers.0"), numbers(model=model, **place)
    assert correlation(here, there) < WIDE / N**0.5
    assert (here == there).double().mean() < 2 * 2**-16 + WIDE * (2**-16 / N) ** 0.5


def test_addresses_of_the_same_letters_are_different_places():
    assert not torch.equal(numbers(99, 1, seed=11, tensor="a"), numbers(99, 11, seed=1, tensor="a"))
    assert not torch.equal(numbers(99, 1, tensor="2/a"), numbers(99, 1, tensor="a"))


def test_one_tensors_numbers_are_not_anothers_further_along():
    seen = [windows(numbers(model=model, tensor=name)) for model in range(2) for name in "ab"]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_numbers_lie_strictly_between_zero_and_one_on_odd_multiples():
    odd = numbers().double() * (1 << 17)
    assert (odd % 2 == 1).all()
    assert odd.min() >= 1
    assert odd.max() <= (1 << 17) - 1


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_their_mean_and_variance_are_those_of_the_uniform_distribution(seed):
    x = numbers(seed=seed).double()
    assert abs(x.mean() - 0.5) < WIDE * (1 / 12 / N) ** 0.5
    assert abs(x.var() - 1 / 12) < WIDE * (1 / 180 / N) ** 0.5


@pytest.mark.parametrize("seed", [0, 1, 2**40])
@pytest.mark.parametrize("bins", [16, 256, 4096])
def test_all_parts_of_the_interval_are_equally_full(seed, bins):
    counts = torch.histc(numbers(seed=seed), bins, 0, 1).double()
    assert abs(chi_square(counts) - (bins - 1)) < WIDE * (2 * (bins - 1)) ** 0.5


@pytest.mark.parametrize("first", [0, 1])
def test_neighbours_are_independent_whether_they_share_a_hash_or_not(first):
    level = (numbers(N + 2)[first : first + N] * 16).long()
    counts = torch.bincount(level[::2] * 16 + level[1::2], minlength=256).double()
    assert abs(chi_square(counts) - 255) < WIDE * (2 * 255) ** 0.5


@pytest.mark.parametrize("lag", [1, 2, 3, 16, 4096])
def test_numbers_do_not_follow_from_those_before(lag):
    x = numbers(N + lag)
    assert correlation(x[lag:], x[:-lag]) < WIDE / N**0.5


def test_every_bit_of_a_number_is_even():
    level = (numbers().double() * (1 << 16)).floor().long()
    shares = torch.stack([((level >> bit) & 1).double().mean() for bit in range(16)])
    assert (shares - 0.5).abs().max() < WIDE * 0.5 / N**0.5


@given(share=st.floats(0, 1))
def test_a_representable_share_is_the_share_of_all_numbers_below_it(share):
    levels = (torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)
    exact = representable(torch.tensor(share, dtype=torch.float64))
    assert (levels < exact).double().mean() == exact
    assert abs(exact - share) <= 2**-17


@settings(max_examples=40)
@given(shares=st.lists(st.floats(0, 1), min_size=1, max_size=3), start=st.integers(0, 1 << 35))
def test_an_entry_is_kept_where_its_number_is_below_the_share(shares, start):
    place = Place(5, "w", start)
    x = torch.arange(1.0, 301).repeat(len(shares), 1)
    kept = keep_random(x, place, torch.tensor(shares, dtype=torch.float64)[:, None])
    for model, (row, found, share) in enumerate(zip(x, kept, shares, strict=True)):
        below = uniform(place, model, row) < representable(torch.tensor(share, dtype=torch.float64))
        assert torch.equal(found, row * below)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9])
def test_as_many_are_kept_as_the_share_says(share):
    kept = keep_random(torch.ones(2, N), Place(), torch.full((2, 1), share)).double().mean(1)
    assert (kept - share).abs().max() < WIDE * (share * (1 - share) / N) ** 0.5


def test_share_one_keeps_everything_and_share_zero_nothing():
    x = torch.tensor([[0.0, -0.0, 1e-45, -3e38, float("inf"), float("nan")]] * 2)
    kept = keep_random(x, Place(), torch.tensor([[1.0], [0.0]]))
    assert torch.equal(kept[0].nan_to_num(nan=7), x[0].nan_to_num(nan=7))
    assert not kept[1, :4].any()


def test_a_dropped_entry_that_is_not_finite_stays_visible():
    x = torch.tensor([[float("inf"), -float("inf"), float("nan")]])
    assert keep_random(x, Place(), torch.zeros(1, 1)).isnan().all()


def test_numbers_know_nothing_of_axes():
    x = torch.ones(2, 3, 4, 5)
    share = torch.full((2, 1, 1, 1), 0.5)
    flat = keep_random(x.reshape(2, -1), Place(1, "w"), share.reshape(2, 1))
    assert torch.equal(keep_random(x, Place(1, "w"), share), flat.reshape(x.shape))
    assert torch.equal(uniform(Place(), 0, x[0]), uniform(Place(), 0, x[0].reshape(-1)).reshape(3, 4, 5))


@pytest.mark.parametrize("shape", [(2, 0), (2,), (2, 3, 0)])
def test_nothing_needs_no_numbers(shape):
    share = torch.full((2,) + (1,) * (len(shape) - 1), 0.5)
    assert keep_random(torch.ones(shape), Place(), share).shape == shape


def test_operands_are_left_as_they_are():
    x = torch.ones(1, 100)
    keep_random(x, Place(), torch.full((1, 1), 0.5))
    assert (x == 1).all()


def correlation(x, y):
    return abs(float(torch.corrcoef(torch.stack([x.double(), y.double()]))[0, 1]))


def chi_square(counts):
    return float(((counts - counts.mean()) ** 2).sum() / counts.mean())


def windows(x):
    """All runs of four numbers, as one integer each: 64 bits, so that none appears twice by chance."""
    level = (x.double() * (1 << 16)).floor().long() - (1 << 15)
    return set((((level[:-3] << 16 ^ level[1:-2]) << 16 ^ level[2:-1]) << 16 ^ level[3:]).tolist())
