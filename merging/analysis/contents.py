"""What a checkpoint holds: its tensors from headers alone, one tensor's numbers on demand, what sets two apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf, nan, sqrt
from typing import NamedTuple

from merging.checkpoint.adapters import AdaptedCheckpoint
from merging.checkpoint.tensors import Checkpoint
from merging.errors import CheckpointError
from merging.families.family import recognise
from merging.hub.checkpoint import HubCheckpoint
from merging.lazy import Tensor, torch
from merging.store.tasks import TaskCheckpoint

# Entries read at once.
BLOCK = 1 << 20
BINS = 64


class Held(NamedTuple):
    """One tensor of a checkpoint and where it stands; `nbytes` as stored."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    entries: int
    nbytes: int
    stack: str
    layer: int | None
    role: str


@dataclass(frozen=True)
class Contents:
    """A checkpoint as its headers tell it; `layers` by stack."""

    location: str
    family: str
    layers: Mapping[str, int]
    fingerprint: str
    sidecars: tuple[str, ...]
    tensors: tuple[Held, ...]


@dataclass(frozen=True)
class Statistics:
    """One tensor's entries as numbers; all but `zeros` and `non_finite` are of the finite ones, NaN where none is.

    `counts[k]` entries lie in [edges[k], edges[k + 1]), the last bin with its upper edge.
    """

    entries: int
    minimum: float
    maximum: float
    mean: float
    deviation: float
    norm: float
    zeros: int
    non_finite: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Contrast:
    """How far one tensor of two checkpoints lies apart: `norm` of the difference, `relative` to the first's."""

    same: bool
    norm: float
    relative: float
    cosine: float
    largest: float
    changed: int


def contents(checkpoint: Checkpoint) -> Contents:
    """List a checkpoint; no entry is read."""
    family = recognise(checkpoint.config, checkpoint.specs)
    tensors = []
    for spec in checkpoint.specs.values():
        place = family.place(spec.name)
        tensors.append(
            Held(spec.name, spec.dtype, spec.shape, spec.entries, spec.nbytes, place.stack, place.layer, place.role)
        )
    # Those on the Hub are named without being fetched.
    beside = checkpoint.base if isinstance(checkpoint, AdaptedCheckpoint) else checkpoint
    beside = beside.held if isinstance(beside, TaskCheckpoint) else beside
    sidecars = beside.sidecar_names if isinstance(beside, HubCheckpoint) else beside.sidecars()
    return Contents(
        checkpoint.location,
        family.name,
        dict(family.stacks),
        checkpoint.fingerprint,
        tuple(sorted(sidecars)),
        tuple(tensors),
    )


def tensor_statistics(checkpoint: Checkpoint, name: str, bins: int = BINS) -> Statistics:
    """Read one tensor twice, in blocks: for its moments, and for a histogram between its extremes.

    Sums are float64. Raises CheckpointError for a tensor that is not there or whose entries are no numbers.
    """
    low, high, total, squares, zeros, finite = inf, -inf, 0.0, 0.0, 0, 0
    for x in _numbers(checkpoint, name):
        zeros += int((x == 0).sum())
        x = x[torch.isfinite(x)]
        if x.numel():
            low, high = min(low, float(x.min())), max(high, float(x.max()))
            total, squares = total + float(x.sum()), squares + float(x.square().sum())
            finite += x.numel()
    entries = checkpoint.specs[name].entries
    if not finite:
        return Statistics(entries, nan, nan, nan, nan, nan, zeros, entries, (), ())
    counts = torch.zeros(bins, dtype=torch.float64)
    # A histogram needs some width; equal entries all lie in its middle.
    first, last = (low, high) if high > low else (low - 0.5, high + 0.5)
    for x in _numbers(checkpoint, name):
        counts += torch.histc(x[torch.isfinite(x)], bins, first, last)
    mean = total / finite
    return Statistics(
        entries,
        low,
        high,
        mean,
        sqrt(max(0.0, squares / finite - mean * mean)),
        sqrt(squares),
        zeros,
        entries - finite,
        tuple(torch.linspace(first, last, bins + 1, dtype=torch.float64).tolist()),
        tuple(int(count) for count in counts),
    )


def contrast(left: Checkpoint, right: Checkpoint, name: str) -> Contrast:
    """Compare one tensor of two checkpoints, entry by entry in float64, in blocks.

    Raises CheckpointError where one lacks it or the shapes differ.
    """
    shapes = [_spec_shape(each, name) for each in (left, right)]
    if shapes[0] != shapes[1]:
        raise CheckpointError(
            f"{name} has shape {shapes[0]} in {left.location}, {shapes[1]} in {right.location}", must_be="one shape"
        )
    same, changed, largest = True, 0, 0.0
    sums = torch.zeros(4, dtype=torch.float64)
    for x, y in zip(_numbers(left, name), _numbers(right, name), strict=True):
        gap = y - x
        sums += torch.stack([gap @ gap, x @ x, y @ y, x @ y])
        found = int((gap != 0).sum())
        same, changed = same and not found, changed + found
        largest = max(largest, float(gap.abs().max())) if gap.numel() else largest
    gap_norm, left_norm, right_norm = sums[:3].sqrt().tolist()
    lengths = left_norm * right_norm
    return Contrast(
        same,
        gap_norm,
        gap_norm / left_norm if left_norm else (0.0 if not gap_norm else inf),
        float(sums[3]) / lengths if lengths else nan,
        largest,
        changed,
    )


def _numbers(checkpoint: Checkpoint, name: str) -> Iterator[Tensor]:
    """Blocks of a tensor in float64."""
    _spec_shape(checkpoint, name)
    spec = checkpoint.specs[name]
    if spec.length != spec.entries or spec.dtype in ("C64", "F8_E8M0"):
        raise CheckpointError(
            f"the entries of {name} are {spec.dtype}, codes and not numbers", where=checkpoint.location
        )
    for start in range(0, spec.entries, BLOCK):
        yield checkpoint.read(name, start, min(start + BLOCK, spec.entries)).double()


def _spec_shape(checkpoint: Checkpoint, name: str) -> tuple[int, ...]:
    if name not in checkpoint.specs:
        raise CheckpointError(f"there is no tensor {name!r}", where=checkpoint.location, fix="see `merging inspect`")
    return checkpoint.specs[name].shape
