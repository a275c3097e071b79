"""Which entries to keep by what all models say about them: ranks within rows, conflicts, agreement with the merge.

Masks are float32, one for kept and zero for not, so that they multiply; a comparison that writes floats costs half of
one that writes booleans, and a selection by booleans forty times as much.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from merging.algebra.randomness import LEVELS, Place, representable, uniform
from merging.algebra.signs import sum_models
from merging.algebra.sparsify import SIGNLESS
from merging.lazy import Float, Int, Tensor, torch

# Entries sorted at once: their 64-bit keys stay in the second-level cache.
SORTED = 1 << 18
WORD = 32
# The least normal float32: the least divisor whose reciprocal is finite.
TINY = 2.0**-126


def tall_mask(
    x: Float[Tensor, "*shape"], merged: Float[Tensor, "*shape"], threshold: Float[Tensor, "*ones"]
) -> Float[Tensor, "*shape"]:
    """Where a task vector is larger than its distance from the merged one times a threshold.

    >>> tall_mask(torch.tensor([2.0, 2.0]), torch.tensor([3.0, 9.0]), torch.tensor(1.0))
    tensor([1., 0.])
    """
    distance = torch.sub(merged, x).abs_().mul_(threshold)
    return torch.gt(x.abs(), distance, out=distance)


def variance(x: Float[Tensor, "models *shape"]) -> Float[Tensor, "*shape"]:
    """Biased variance over the models of each entry, exactly zero where they are equal.

    >>> variance(torch.tensor([[1.0, 2.0], [3.0, 2.0]]))
    tensor([1., 0.])
    """
    mean, square = torch.zeros_like(x[0]), torch.zeros_like(x[0])
    distance = torch.empty_like(mean)
    for row in x[1:]:
        mean += torch.sub(row, x[0], out=distance)
    mean /= len(x)
    for row in x:
        torch.sub(row, x[0], out=distance).sub_(mean)
        square += distance.mul_(distance)
    return square.div_(len(x))


def conflict(x: Float[Tensor, "models *shape"]) -> Float[Tensor, "*shape"]:
    """Sum over pairs of models of the product of their magnitudes.

    >>> conflict(torch.tensor([[1.0, 2.0], [-3.0, 0.0], [1.0, 1.0]]))
    tensor([7., 2.])
    """
    total, before = torch.zeros_like(x[0]), torch.zeros_like(x[0])
    magnitude, product = torch.empty_like(total), torch.empty_like(total)
    for row in x:
        torch.abs(row, out=magnitude)
        total += torch.mul(magnitude, before, out=product)
        before += magnitude
    return total


def balances(
    x: Float[Tensor, "models *shape"], limits: Float[Tensor, "models two"], variant: str
) -> tuple[Float[Tensor, "models *shape"], Float[Tensor, "models *shape"]]:
    """Parameter competition balance of each entry, to a factor per model, and the entries with clamped magnitudes.

    z       = (|x| clamped to the limits - low) / (high - low)
    balance = exp(models (z^2 - 1)) inter, zero for a model whose limits are equal
    inter_i = tanh(x_i sum_j x_j), or sum_j tanh(sign(x_i) z_i sign(x_j) z_j) for the variant "vision"

    The exponent is the paper's minus the number of models, so that it cannot overflow.
    """
    clamped, share = torch.empty_like(x), torch.empty_like(x)
    sign = torch.empty_like(x[0])
    for row, found, z, (low, high) in zip(x, clamped, share, limits.tolist(), strict=True):
        torch.sign(row, out=sign)
        torch.abs(row, out=found).clamp_(low, high)
        torch.sub(found, low, out=z).div_(max(high - low, TINY)).mul_(sign)
        found.mul_(sign)
    inter = _pairwise(share) if variant == "vision" else torch.tanh(x * sum_models(x))
    inter *= (limits[:, 1] > limits[:, 0]).to(x).reshape(-1, *[1] * (x.ndim - 1))
    return share.square_().sub_(1).mul_(len(x)).exp_().mul_(inter), clamped


def _pairwise(z: Float[Tensor, "models *shape"]) -> Float[Tensor, "models *shape"]:
    """Sum over all models j, itself included, of tanh(z_i z_j)."""
    total = torch.zeros_like(z)
    product = torch.empty_like(z[0])
    for i, row in enumerate(z):
        total[i] += torch.mul(row, row, out=product).tanh_()
        for j in range(i):
            torch.mul(row, z[j], out=product).tanh_()
            total[i] += product
            total[j] += product
    return total


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of as many whole rows as are sorted at once, at least one.

    >>> list(row_blocks(3, 100_000))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    step = max(1, SORTED // max(1, columns))
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def sorted_magnitudes(x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The magnitudes of each row in ascending order, NaN last.

    >>> sorted_magnitudes(torch.tensor([[3.0, -1.0, -2.0]]))
    tensor([[1., 2., 3.]])
    """
    return _sort(x.view(torch.int32) & SIGNLESS).view(torch.float32)


def by_rank(x: Float[Tensor, "rows columns"], values: Float[Tensor, " columns"]) -> Float[Tensor, "rows columns"]:
    """For each entry the value that belongs to the rank of its magnitude in its row; equal ones rank in their order.

    >>> by_rank(torch.tensor([[5.0, 0.0, -1.0]]), torch.tensor([0.1, 0.2, 0.3]))
    tensor([[0.3000, 0.1000, 0.2000]])
    """
    columns = torch.arange(x.shape[1], device=x.device)
    keys = (x.view(torch.int32) & SIGNLESS).long().bitwise_left_shift_(WORD).bitwise_or_(columns)
    order = _sort(keys).bitwise_and_((1 << WORD) - 1)
    return torch.empty_like(x).scatter_(1, order, values.expand_as(x))


def chances(density: Float[Tensor, "*models"], epsilon: Float[Tensor, "*models"]) -> list[tuple[float, float]]:
    """Chance of the smallest and of the largest entry of a row, for each model: density -+ epsilon, or all or nothing.

    >>> chances(torch.tensor([0.5, 1.0]), torch.tensor([0.25, 0.25]))
    [(0.25, 0.75), (1.0, 1.0)]
    """
    pairs = zip(density.flatten().tolist(), epsilon.flatten().tolist(), strict=True)
    return [(share, share) if share in (0, 1) else (share - spread, share + spread) for share, spread in pairs]


def keep_by_rank(
    x: Float[Tensor, "models rows columns"],
    place: Place,
    bounds: list[tuple[float, float]],
    unbiased: bool = False,
) -> Float[Tensor, "models rows columns"]:
    """Entries that survive a coin whose probability grows with the rank of their magnitude in their row, else zero.

    Ranks r of n give low + (high - low) (r - 1) / (n - 1) with each model's bounds, and (low + high) / 2 in a row of
    one entry, to the nearest multiple of 2^-16; `unbiased` divides by that. Bounds of 1 keep everything, of 0 nothing.
    """
    kept = torch.empty_like(x)
    rows, columns = x.shape[1:]
    for model, (matrix, found, (low, high)) in enumerate(zip(x, kept, bounds, strict=True)):
        if low == high and low in (0, 1):
            torch.mul(matrix, low, out=found)
            continue
        shares = torch.linspace(low, high, columns, dtype=torch.float64, device=x.device)
        shares = representable(shares if columns > 1 else shares * 0 + (low + high) / 2).float()
        for block in row_blocks(rows, columns):
            part = matrix[block]
            share = by_rank(part, shares)
            coin = uniform(replace(place, start=place.start + block.start * columns), model, part)
            torch.sub(share, coin, out=coin).sign_().relu_()
            torch.mul(part, coin, out=found[block])
            if unbiased:
                found[block] /= share.clamp_(min=1 / LEVELS)
    return kept


def _sort(keys: Int[Tensor, "rows columns"]) -> Int[Tensor, "rows columns"]:
    """Each row in ascending order, in place. Numpy's vector sort takes a seventh of the time of torch's."""
    if keys.is_cpu:
        keys.numpy().sort()
        return keys
    return keys.sort().values
