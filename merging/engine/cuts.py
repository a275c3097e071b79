"""How one tensor is cut for a method: spans that are separate tasks, steps handled at once, and buffers for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from merging.engine.execute import DEVICE_BLOCK, SPAN
from merging.methods.application import MEASURING_BLOCK, PADDING, blocks, columns_of, padded
from merging.methods.declare import Reach

Ranges: TypeAlias = Sequence[tuple[int, int]]


def grouped(ranges: Iterable[tuple[int, int]], entries: int) -> Iterator[Ranges]:
    """Consecutive ranges in groups of at most so many entries; a range that is longer is cut.

    >>> list(grouped([(0, 2), (5, 7), (8, 13)], 4))
    [[(0, 2), (5, 7)], [(8, 12)], [(12, 13)]]
    """
    group: list[tuple[int, int]] = []
    room = entries
    for start, stop in ranges:
        for a, b in list(blocks(start, stop, entries)) or [(start, stop)]:
            if b - a > room:
                yield group
                group, room = [], entries
            group.append((a, b))
            room -= b - a
    yield group


@dataclass(frozen=True)
class Cuts:
    """The cuts of a tensor of this shape for a method of this reach, with cache blocks of `block` entries."""

    reach: Reach
    shape: Sequence[int]
    block: int
    device: str

    @property
    def entries(self) -> int:
        """Entries of the whole tensor."""
        return prod(self.shape)

    @property
    def columns(self) -> int:
        """Entries of a row of the last axis, at least one."""
        return columns_of(self.shape)

    @property
    def span(self) -> int:
        """Entries per task and per digest: whole rows, or the whole tensor, where the method needs them."""
        if self.reach in ("matrix", "tensor"):
            return max(1, self.entries)
        return max(1, SPAN // self.columns) * self.columns if self.reach == "row" else SPAN

    @property
    def step(self) -> int:
        """Entries handled at once: cache blocks, whole rows, or the tensor."""
        block = self.block if self.device == "cpu" else max(self.block, DEVICE_BLOCK)
        if self.reach in ("matrix", "tensor"):
            return max(1, self.entries)
        return max(1, block // self.columns) * self.columns if self.reach == "row" else block

    @property
    def measured(self) -> int:
        """Entries measured at once: a fixed number, whatever the memory, or the whole rows that it holds."""
        block = MEASURING_BLOCK if self.device == "cpu" else DEVICE_BLOCK
        return max(1, block // self.columns) * self.columns if self.reach == "row" else block

    def seen(self, entries: int) -> tuple[int, ...]:
        """The shape in which a round sees so many entries of one operand."""
        return (entries // self.columns, self.columns) if self.reach == "row" else (entries,)

    def room(self, entries: int) -> tuple[int, tuple[int, ...]]:
        """Entries of a buffer for a block, padded, and the shape a method sees of it."""
        if self.reach in ("matrix", "tensor"):
            return entries, tuple(self.shape)
        if self.reach == "row":
            rows = entries // self.columns
            if entries % PADDING:
                rows += -(-PADDING // self.columns)
            return rows * self.columns, (rows, self.columns)
        return padded(entries), (padded(entries),)
