"""What counts of magnitudes tell, against the magnitudes themselves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from merging.analysis.magnitudes import BINS, kept_squares, lower_ends, share_above, squares, thresholds
from tests.tiny_shapes import normal


def counted(x: Tensor) -> Tensor:
    bins = torch.bucketize(x.abs().double(), lower_ends()[1:], right=True) * (x != 0)
    return torch.bincount(bins, minlength=BINS)


DENSE = 0.001 * normal((20_000,), "dense", 0)
SAMPLES = {
    "normal": DENSE,
    "heavy tails": DENSE**3 * 1e4,
    "mostly zero": DENSE * (normal((20_000,), "kept", 0) > 1.3),
    "steps of a coarse dtype": (DENSE * 2000).round() / 2**13,
    "one size": torch.full((20_000,), 0.003),
}


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("density", [0.05, 0.1, 0.2, 0.5])
def test_the_norm_that_trimming_keeps_is_within_two_percent(kind: str, density: float) -> None:
    x = SAMPLES[kind].double()
    counts, whole, largest = counted(x), x.square().sum(), x.abs().max()
    found = kept_squares(counts, squares(counts, whole, largest), density) / whole
    exact = x.abs().sort(descending=True).values[: round(density * len(x))].square().sum() / whole
    assert float(found.sqrt()) == pytest.approx(float(exact.sqrt()), abs=0.02)


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("density", [0.05, 0.2, 0.5])
def test_a_threshold_is_within_the_width_of_a_bin(kind: str, density: float) -> None:
    x = SAMPLES[kind].double().abs()
    found = float(thresholds(counted(x), x.max(), density))
    exact = float(x.sort(descending=True).values[round(density * len(x)) - 1])
    assert found == pytest.approx(exact, rel=0.126)


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=60))
def test_squares_in_bins_add_up_and_keeping_all_keeps_the_norm(values: list[float]) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    counts, whole, largest = counted(x), x.square().sum(), x.abs().max()
    found = squares(counts, whole, largest)
    assert bool((found >= 0).all())
    # Squares of the tiniest numbers vanish even in float64.
    if float(whole) > 0:
        assert float(kept_squares(counts, found, 1.0)) == pytest.approx(float(whole))
    kept = [float(kept_squares(counts, found, density)) for density in (0.0, 0.3, 0.6, 1.0)]
    assert kept == sorted(kept)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60), st.floats(0, 1))
def test_the_share_above_a_magnitude_is_that_of_magnitudes_a_bin_away(values: list[float], magnitude: float) -> None:
    x = torch.tensor(values, dtype=torch.float64).abs()
    found = float(share_above(counted(x), x.max(), torch.tensor(magnitude, dtype=torch.float64)))
    least = float((x > magnitude * 1.126 + 2**-29).double().mean())
    most = float((x > magnitude / 1.126 - 2**-29).double().mean())
    assert least - 1e-9 <= found <= most + 1e-9
