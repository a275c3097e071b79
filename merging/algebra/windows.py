"""The exact magnitude at a rank from one look at all entries, after a sample has said roughly where it lies.

A sample of the entries bounds each wanted magnitude by a window. What lies inside the window is listed, equal
magnitudes once with their number; what lies outside is counted at the window's nearest bound. A rank that falls inside
is that of all entries, exactly; where the sample misled, it falls outside, and nothing is guessed. Lists add up over
blocks by standing side by side.

A list is (2, n): keys and numbers. A key is the list's row, counted over models and ranks, and a magnitude's 31 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from merging.algebra.sparsify import LOWER, SIGNLESS, UPPER, locate, order_statistics
from merging.lazy import Float, Int, Tensor, torch

# Neighbours share a row, a head or a word and are large together: chunks far apart tell more than their entries do. A
# chunk of 2^11 bfloat16 numbers is a page of a file, and costs hardly less when it is shorter.
CHUNK = 1 << 11
# A chunk is taken from each of so many regions at least, of at most so many entries.
REGIONS = 64
REGION = 1 << 16
# Golden ratio in 32 bits: chunks lie at places of their regions that are spread evenly and repeat in no row length.
GOLDEN = 0x9E3779B1
# Half the width of a window, in ranks and standard deviations of a sample whose chunks hold equal entries. Chunks of
# trained matrices have a fifth of that: 2.5 deviations then, and values that many entries share make windows wider.
MARGIN = 0.5
BITS = 31
BEYOND = SIGNLESS + 1
# Entries are padded to a multiple of this, by numbers below every window.
PADDED = 128


def sample_weight(entries: int) -> int:
    """How many entries each sampled one stands for; 1 where a tensor is so small that all are looked at.

    >>> sample_weight(1 << 26), sample_weight(1 << 20), sample_weight(1 << 18)
    (32, 8, 1)
    """
    region = min(REGION, 1 << max(0, (entries // REGIONS).bit_length() - 1))
    return region // CHUNK if region > 2 * CHUNK else 1


def sampled_ranges(entries: int) -> Iterator[tuple[int, int]]:
    """The ranges that stand for so many entries: one chunk of every region, or all in one.

    >>> list(sampled_ranges(1 << 22))[:2], list(sampled_ranges(5))
    ([(0, 2048), (104773, 106821)], [(0, 5)])
    """
    weight = sample_weight(entries)
    size = CHUNK * weight if weight > 1 else max(1, entries)
    for number, start in enumerate(range(0, max(1, entries), size)):
        region = min(size, entries - start)
        chunk = -(-region // weight)
        first = start + ((number * GOLDEN & 0xFFFFFFFF) * (region - chunk) >> 32)
        yield first, first + chunk


def sampled_entries(entries: int) -> int:
    """How many entries the sample holds.

    >>> sampled_entries(1 << 22), sampled_entries((1 << 22) + 1), sampled_entries(5)
    (131072, 131073, 5)
    """
    weight = sample_weight(entries)
    regions, rest = divmod(entries, CHUNK * weight)
    return regions * CHUNK - (-rest // weight)


def windows(
    counts: Int[Tensor, "models uppers"], sampled: Int[Tensor, " models"], ranks: Int[Tensor, "models ranks"]
) -> Int[Tensor, "models ranks ends"]:
    """Bits of the first magnitude of the window around each rank and of the first beyond it; ranks outside have none.

    `counts` are coarse counts of as many entries as the sample stands for, `sampled` how many it holds. A window never
    begins at zero, for zeros are counted in any case.
    """
    total = counts[:, -1:]
    share = ((ranks.double() - 0.5) / total).clamp(0, 1)
    spread = (share * (1 - share) * CHUNK / sampled[:, None]).sqrt() * (sampled[:, None] < total)
    margin = (spread * MARGIN * total).nan_to_num(0).ceil().long()
    lowest, highest = ranks - margin, ranks + margin
    low = (locate(counts, lowest)[0] << 16).masked_fill(lowest < 1, 0).clamp_(min=1)
    high = ((locate(counts, highest)[0] + 1) << 16).masked_fill(highest > total, BEYOND)
    return torch.stack([low, high], -1).masked_fill(((ranks < 1) | (ranks > total))[..., None], BEYOND)


def list_magnitudes(
    x: Float[Tensor, "models *shape"], windows: Int[Tensor, "models ranks ends"]
) -> Int[Tensor, "two listed"]:
    """Magnitudes inside each window with their numbers, everything else at the window's bounds.

    >>> list_magnitudes(torch.tensor([[0.0, 1.0, -1.0, 2.0]]), torch.tensor([[[0x3F800000, 0x3F810000]]])).tolist()
    [[1065353215, 1065418752, 1065353216], [1, 1, 2]]
    """
    entries, slots = x[0].numel(), windows.shape[1]
    bits = torch.full((-(-entries // PADDED) * PADDED,), -1, dtype=torch.int32, device=x.device)
    bounds, inside = list[tuple[int, int]](), list[Tensor]()
    for model, (row, pairs) in enumerate(zip(x, windows.tolist(), strict=True)):
        torch.abs(row.reshape(-1), out=bits[:entries].view(torch.float32))
        for slot, (low, high) in enumerate(pairs, start=model * slots):
            below, picked = _inside(bits, low, high)
            inside.append(picked)
            below -= len(bits) - entries
            key = slot << BITS
            outside = (key + low - 1, below), (key + high, entries - below - len(picked))
            bounds += [pair for pair in outside if pair[1]]
    keys = torch.arange(len(inside), device=x.device).repeat_interleave(torch.tensor(list(map(len, inside)))) << BITS
    keys, times = torch.unique_consecutive(keys + torch.cat(inside), return_counts=True)
    return torch.cat(
        [torch.tensor(bounds, dtype=torch.int64, device=x.device).view(-1, 2).T, torch.stack([keys, times])], 1
    )


def condense(listed: Int[Tensor, "two listed"]) -> Int[Tensor, "two condensed"]:
    """A list in ascending order, with equal keys once.

    >>> condense(torch.tensor([[7, 3, 7], [1, 1, 2]]))
    tensor([[3, 7],
            [1, 3]])
    """
    keys, order = listed[0].sort()
    keys, places = torch.unique_consecutive(keys, return_inverse=True)
    return torch.stack([keys, torch.zeros_like(keys).index_add_(0, places, listed[1][order])])


def listed_counts(listed: Int[Tensor, "two listed"], rows: int) -> Int[Tensor, "rows two"]:
    """How many entries each row of a list has, and how many zeros where its window begins behind them.

    >>> listed_counts(torch.tensor([[0, 5, 1 << 31], [2, 1, 4]]), 2)
    tensor([[3, 2],
            [4, 4]])
    """
    zeros = listed[:, (listed[0] & SIGNLESS) == 0]
    return torch.stack([_weighted(each[0] >> BITS, each[1], rows) for each in (listed, zeros)], 1)


def listed_statistics(
    listed: Int[Tensor, "two listed"], windows: Int[Tensor, "models slots ends"], ranks: Int[Tensor, "models ranks"]
) -> Float[Tensor, "models ranks"]:
    """The magnitude at each rank, exactly; 0 at rank 0, NaN beyond the number of entries, -1 outside of its window."""
    models, slots, _ = windows.shape
    wanted = torch.zeros_like(windows[..., 0])
    wanted[:, : ranks.shape[1]] = ranks
    flat = wanted.view(-1, 1)
    coarse = _listed_coarse(listed, models * slots)
    found = order_statistics(coarse, _listed_fine(listed, coarse, flat), flat).view(models, slots)
    bits = found.view(torch.int32)
    low, high = windows.unbind(-1)
    inside = (bits < high) & ((bits >= low) | ((bits == 0) & (low == 1)))
    outside = (wanted < 1) | (wanted > coarse[:, -1].view(models, slots))
    return torch.where(inside | outside, found, -1.0)[:, : ranks.shape[1]]


def _listed_coarse(listed: Int[Tensor, "two listed"], rows: int) -> Int[Tensor, "rows uppers"]:
    counts = _weighted(listed[0] >> 16, listed[1], rows * UPPER).view(rows, UPPER)
    return torch.nn.functional.pad(counts.cumsum(1), (1, 0))


def _listed_fine(
    listed: Int[Tensor, "two listed"], coarse: Int[Tensor, "rows uppers"], ranks: Int[Tensor, "rows one"]
) -> Int[Tensor, "rows one lowers"]:
    """Fine counts of each row of a list around its rank."""
    rows = torch.arange(len(coarse), device=listed.device)
    wanted = rows * UPPER + locate(coarse, ranks)[0][:, 0]
    row, upper = listed[0] >> BITS, listed[0] >> 16
    keys, numbers = listed[:, upper == wanted[row]]
    counts = _weighted((keys >> BITS) * LOWER + (keys & (LOWER - 1)), numbers, len(rows) * LOWER)
    return torch.nn.functional.pad(counts.view(len(rows), 1, LOWER).cumsum(2), (1, 0))


def _weighted(places: Int[Tensor, " listed"], numbers: Int[Tensor, " listed"], size: int) -> Int[Tensor, " size"]:
    return torch.zeros(size, dtype=torch.int64, device=places.device).index_add_(0, places, numbers)


def _inside(bits: Int[Tensor, " padded"], low: int, high: int) -> tuple[int, Int[Tensor, " picked"]]:
    """How many are below `low`, and those below `high` that are not, in order.

    Numpy's comparisons and selections take a sixth of the time of torch's, and of eights where any is wanted less yet.
    """
    if low > SIGNLESS:
        return len(bits), bits[:0]
    if not bits.is_cpu:
        under = bits < low
        return int(under.count_nonzero()), bits[under ^ (bits < high)].sort().values
    every: Any = bits.numpy()
    under = every < low
    eights = ((under ^ (every < high)).view("uint64") != 0).nonzero()[0]
    near = every.reshape(-1, 8).take(eights, 0).reshape(-1)
    picked = near.take(((near < low) ^ (near < high)).nonzero()[0])
    picked.sort()
    # Columns of less than 256 flags are added in bytes.
    below = int(under.view("uint8").reshape(PADDED, -1).sum(0, dtype="uint8").sum())
    return below, torch.from_numpy(picked)
