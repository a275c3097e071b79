"""Magnitudes of task vectors counted in fixed bins, and what the counts tell: thresholds, kept norm, outliers.

A magnitude is rounded to 11 significant bits (half precision, times SCALE) and falls into one of BINS bins: just zero,
below 2^-26 eight bins of 2^-29, then eight a factor of two up to 16, then all that is larger. `lower_ends` lists them.
From 2^-26 to 16 a bin is at most 12.5 % wide, so no entry is taken for more than that beside its place. Where within
their bins entries stand is one number for all bins of a model, chosen such that the squares add up to the squared norm,
which is known apart: right for changes of few steps of a coarse dtype, which stand at lower ends, and for dense ones.
"""

from __future__ import annotations

from merging.lazy import Float, Int, Tensor, torch

# 2^12: half precision is regular from 2^-14 to 2^16, so task vectors are told apart from 2^-26 to 2^4.
SCALE = 4096.0
# Bits of a half-precision number that stay behind when sign, exponent and three bits of fraction are taken.
REST_BITS = 7
CODES = 249
# What fits the byte that is left; the codes beyond are those of larger magnitudes than any bin's, infinity and NaN.
ALL_CODES = 256
BINS = 1 + CODES


def lower_ends() -> Float[Tensor, " bins"]:
    """The smallest magnitude of each bin, in float64; 0 for zero itself and for the first bin beside it.

    >>> lower_ends()[[0, 1, 2, 9, -9, -1]].tolist() == [0.0, 0.0, 2**-29, 2**-26, 8.0, 16.0]
    True
    """
    exponent, fraction = torch.arange(CODES).div(8, rounding_mode="floor"), torch.arange(CODES).remainder(8)
    regular = torch.ldexp(1 + fraction.double() / 8, exponent - 27)
    ends = torch.where(exponent == 0, fraction.double() * 2.0**-29, regular)
    return torch.cat([torch.zeros(1, dtype=torch.float64), ends])


def raised(
    codes: Int[Tensor, "models codes"], changed: Int[Tensor, " models"], lengths: Float[Tensor, " models"]
) -> Int[Tensor, "models codes"]:
    """Counts of a sample's codes in proportion, so that those of each model add up to its changed entries.

    What no sample met, a handful of entries of a large tensor, has the code of its root mean square; `lengths` are L2
    norms times SCALE.
    """
    met = codes[:, :CODES].clone()
    means = (lengths / changed.clamp(min=1).sqrt()).half().view(torch.int16) >> REST_BITS
    unmet = (met.sum(1) == 0) & (changed > 0)
    met[unmet, means[unmet].long().clamp(max=CODES - 1)] = 1
    # Running totals are rounded, not counts: what is rounded away in one bin is found in the next.
    shares = met.cumsum(1).double() / met.sum(1, keepdim=True).clamp(min=1)
    totals = (shares * changed[:, None]).round().long()
    return totals.diff(dim=1, prepend=totals.new_zeros(len(totals), 1))


def widths(largest: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows bins"]:
    """How much each bin spans; the last one ends at the largest magnitude of its row."""
    ends = lower_ends()
    spans = torch.cat([ends.new_zeros(1), ends[2:] - ends[1:-1]]).expand(*largest.shape, BINS - 1)
    return torch.cat([spans, (largest[..., None] - ends[-1]).clamp(min=0.0)], -1)


def squares(
    counts: Int[Tensor, "*rows bins"], norm_squared: Float[Tensor, "*rows"], largest: Float[Tensor, "*rows"]
) -> Float[Tensor, "*rows bins"]:
    """The squared norm of the entries in each bin; they add up to `norm_squared`."""
    found = (
        counts.double() * (lower_ends() + _position(counts, norm_squared, largest)[..., None] * widths(largest)) ** 2
    )
    total = found.sum(-1, keepdim=True)
    return found * torch.where(total > 0, norm_squared[..., None] / total, 0.0)


def _position(
    counts: Int[Tensor, "*rows bins"], norm_squared: Float[Tensor, "*rows"], largest: Float[Tensor, "*rows"]
) -> Float[Tensor, "*rows"]:
    """Where entries stand in their bins: p in [0, 1] of sum counts (lower + p width)^2 = norm_squared."""
    ends, spans, weights = lower_ends(), widths(largest), counts.double()
    a, b = (weights * spans**2).sum(-1), (weights * ends * spans).sum(-1)
    c = (weights * ends**2).sum(-1) - norm_squared
    root = (b**2 - a * c).clamp(min=0.0).sqrt()
    return torch.where(a > 0, (root - b) / a, 0.0).clamp(0.0, 1.0)


def kept_squares(
    counts: Int[Tensor, "*rows bins"], squares: Float[Tensor, "*rows bins"], density: float
) -> Float[Tensor, "*rows"]:
    """The squared norm of the largest `density` of all entries, zeros included."""
    return (_kept(counts, density) * squares).sum(-1)


def thresholds(
    counts: Int[Tensor, "*rows bins"], largest: Float[Tensor, "*rows"], density: float
) -> Float[Tensor, "*rows"]:
    """The magnitude of which the largest `density` of all entries are at least; within the width of its bin."""
    kept = _kept(counts, density)
    at = ((kept > 0) & (counts > 0)).to(torch.uint8).argmax(-1, keepdim=True)
    spans = widths(largest).gather(-1, at) * (1 - kept.gather(-1, at))
    return (lower_ends()[at] + spans).squeeze(-1)


def share_above(
    counts: Int[Tensor, "*rows bins"], largest: Float[Tensor, "*rows"], magnitude: Float[Tensor, "*rows"]
) -> Float[Tensor, "*rows"]:
    """Share of all entries whose magnitude exceeds what is given; entries are spread evenly over its bin."""
    ends, spans = lower_ends(), widths(largest)
    above = ((ends + spans - magnitude[..., None]) / spans).nan_to_num(0.0, posinf=1.0, neginf=0.0).clamp(0.0, 1.0)
    return (counts * above).sum(-1) / counts.sum(-1).clamp(min=1)


def _kept(counts: Int[Tensor, "*rows bins"], density: float) -> Float[Tensor, "*rows bins"]:
    """Share of each bin that is among the largest `density` of all entries."""
    larger = counts.flip(-1).cumsum(-1).flip(-1) - counts
    wanted = density * counts.sum(-1, keepdim=True)
    return ((wanted - larger) / counts.clamp(min=1)).clamp(0.0, 1.0)
