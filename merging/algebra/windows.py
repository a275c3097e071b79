"""The exact magnitude at a rank from one look at all entries, after a sample has said roughly where it lies.

A sample of the entries bounds each wanted magnitude by a window. What lies inside the window is listed, equal
magnitudes once with their number; what lies outside is counted at the window's nearest bound. A rank that falls inside
is that of all entries, exactly; where the sample misled, it falls outside, and nothing is guessed. Lists add up over
blocks by standing side by side.

A list is (2, n): keys and numbers. A key is the list's row, counted over models and ranks, and a magnitude's 31 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
# So many values of a window are counted and not listed if this share of all entries has their upper bits: a comparison
# costs what listing so many does. Differences of bfloat16 numbers have such values, bfloat16 numbers themselves.
SHARED = 4
SHARED_LEAST = 1 / 64
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
) -> Int[Tensor, "models ranks bits"]:
    """Where a sample lets each rank be expected, for magnitudes to be listed.

    A window is the bits of its first magnitude, of the first beyond it, and of magnitudes in it that many entries may
    share. They lie beyond every number for ranks outside, and where there are fewer such magnitudes. A window never
    begins at zero, for zeros are counted in any case. `counts` are coarse counts of as many entries as the sample
    stands for, `sampled` how many it holds.
    """
    total = counts[:, -1:]
    share = ((ranks.double() - 0.5) / total).clamp(0, 1)
    spread = (share * (1 - share) * CHUNK / sampled[:, None]).sqrt() * (sampled[:, None] < total)
    margin = (spread * MARGIN * total).nan_to_num(0).ceil().long()
    lowest, highest = ranks - margin, ranks + margin
    low = (locate(counts, lowest)[0] << 16).masked_fill(lowest < 1, 0).clamp_(min=1)
    high = ((locate(counts, highest)[0] + 1) << 16).masked_fill(highest > total, BEYOND)
    found = torch.cat([low[..., None], high[..., None], _shared(counts, low, high)], -1)
    return found.masked_fill(((ranks < 1) | (ranks > total))[..., None], BEYOND)


def _shared(
    counts: Int[Tensor, "models uppers"], low: Int[Tensor, "models ranks"], high: Int[Tensor, "models ranks"]
) -> Int[Tensor, "models ranks values"]:
    """The least values of those bins of each window that hold the most, where that is much."""
    first = torch.arange(UPPER, device=counts.device) << 16
    inside = (first >= low[..., None]) & (first < high[..., None])
    most, bins = (counts.diff(dim=1)[:, None] * inside).topk(SHARED, -1)
    return (bins << 16).masked_fill(most <= SHARED_LEAST * counts[:, None, -1:], BEYOND)


def list_magnitudes(
    x: Float[Tensor, "models *shape"], windows: Int[Tensor, "models ranks bits"]
) -> Int[Tensor, "two listed"]:
    """Magnitudes inside each window with their numbers, everything else at the window's bounds.

    >>> list_magnitudes(torch.tensor([[0.0, 1.0, -1.0, 2.0]]), torch.tensor([[[0x3F800000, 0x3F810000]]])).tolist()
    [[1065353215, 1065418752, 1065353216], [1, 1, 2]]
    """
    entries, slots = x[0].numel(), windows.shape[1]
    padding = -entries % PADDED
    bits = torch.empty(entries + padding, dtype=torch.int32, device=x.device)
    bits[entries:] = -1
    magnitudes = bits[:entries].view(torch.float32)
    apart, listed = list[tuple[int, int]](), list[tuple[int, Any, Any]]()
    for model, (row, found) in enumerate(zip(x, windows.tolist(), strict=True)):
        torch.abs(row.reshape(-1), out=magnitudes)
        for slot, (low, high, *shared) in enumerate(found, start=model * slots):
            few, values, numbers = _split(bits, padding, low, high, [each for each in shared if each < BEYOND])
            apart += [((slot << BITS) + value, number) for value, number in few if number]
            if len(values):
                listed.append((slot << BITS, values, numbers))
    several = torch.tensor(apart, dtype=torch.int64, device=x.device).view(-1, 2).T
    return _assembled(several, listed)


def _assembled(several: Int[Tensor, "two several"], listed: Sequence[tuple[int, Any, Any]]) -> Int[Tensor, "two all"]:
    """One list of several keys and of values, numpy's or torch's, that are to be keys from each first one on."""
    size = several.shape[1] + sum(len(values) for _, values, _ in listed)
    made = torch.empty((2, size), dtype=torch.int64, device=several.device)
    made[:, : several.shape[1]] = several
    filled = several.shape[1]
    target: Any = made.numpy() if made.is_cpu else made
    for first, values, numbers in listed:
        place = slice(filled, filled + len(values))
        target[0, place] = values
        target[0, place] += first
        target[1, place] = numbers
        filled += len(values)
    return made


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
    listed: Int[Tensor, "two listed"], windows: Int[Tensor, "models slots bits"], ranks: Int[Tensor, "models ranks"]
) -> Float[Tensor, "models ranks"]:
    """The magnitude at each rank, exactly; 0 at rank 0, NaN beyond the number of entries, -1 outside of its window."""
    models, slots, _ = windows.shape
    wanted = torch.zeros_like(windows[..., 0])
    wanted[:, : ranks.shape[1]] = ranks
    flat = wanted.view(-1, 1)
    coarse = _listed_coarse(listed, models * slots)
    found = order_statistics(coarse, _listed_fine(listed, coarse, flat), flat).view(models, slots)
    bits = found.view(torch.int32)
    low, high = windows[..., :2].unbind(-1)
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


def _split(
    bits: Int[Tensor, " padded"], padding: int, low: int, high: int, shared: Sequence[int]
) -> tuple[list[tuple[int, int]], Any, Any]:
    """A few values with their numbers, those for all below and all above among them; other values, and their numbers.

    Numpy's comparisons and selections take a sixth of the time of torch's, and its small steps a tenth.
    """
    if low > SIGNLESS:
        return [(low - 1, len(bits) - padding)], (), ()
    every: Any = bits.numpy() if bits.is_cpu else bits
    below = every < low
    wanted = every < high
    wanted ^= below
    apart = [(low - 1, _number(below) - padding)]
    for value in shared:
        same = every == value
        wanted ^= same
        apart.append((value, _number(same)))
    if not bits.is_cpu:
        values, numbers = torch.unique(bits[wanted], return_counts=True)
        apart.append((high, len(bits) - padding - sum(number for _, number in apart) - int(numbers.sum())))
        return apart, values, numbers
    picked = every.take(wanted.nonzero()[0])
    picked.sort()
    apart.append((high, len(bits) - padding - sum(number for _, number in apart) - len(picked)))
    # Runs of equal values: where all but the last end, and how long they are.
    ends = (picked[1:] != picked[:-1]).nonzero()[0]
    if len(picked):
        apart.append((int(picked[-1]), len(picked) - 1 - int(ends[-1] if len(ends) else -1)))
    lengths = ends.copy()
    lengths[1:] -= ends[:-1]
    lengths[:1] += 1
    return apart, picked.take(ends), lengths


def _number(flags: Any) -> int:
    """How many of a padded array's flags are set; numpy's are added in bytes, in columns of less than 256."""
    if isinstance(flags, torch.Tensor):
        return int(flags.count_nonzero())
    return int(flags.view("uint8").reshape(PADDED, -1).sum(0, dtype="uint8").sum())
