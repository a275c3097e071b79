"""Shards by way of the disk: made there, sent when they are whole, and then removed unless they are kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path

from merging.checkpoint.layout import Layout
from merging.checkpoint.sink import PARTIAL, ShardSink
from merging.engine.delivery import Delivery, Sent
from merging.engine.execute import stored_digest
from merging.engine.journal import Journal
from merging.engine.ledger import Row
from merging.engine.outbox import Outbox
from merging.lazy import Tensor

# Shards on disk at a time: one that is being sent, one that is being made.
SHARDS_ON_DISK = 2


class WholeShards(Outbox):
    """An outbox with a file for each shard that has been begun and has not arrived."""

    way = "shards"

    def __init__(self, folder: Path, layout: Layout, delivery: Delivery, journal: Journal, arrived: Mapping[str, Sent]):
        super().__init__(layout, delivery, journal, arrived)
        self.folder = folder
        self._keeps = delivery.keeps_weights
        if self._keeps:
            self._pending = list(range(len(layout.files)))
        self._sinks: dict[int, ShardSink] = {}
        self._unsettled = [set(file.tensors) for file in layout.files]
        self._whole: deque[int] = deque()
        self._turns = {name: i for i, name in enumerate(layout.specs)}

    @property
    def disk_bytes(self) -> int:
        """What the shards on disk take at most, at a time."""
        sizes = sorted((self.layout.files[number].size for number in self._pending), reverse=True)
        return sum(sizes if self._keeps else sizes[:SHARDS_ON_DISK])

    def keep(self, rows: Mapping[str, Row]) -> dict[str, Row]:
        """Rows of shards that have arrived, and of tensors that the files on disk really hold."""
        kept: dict[str, Row] = {}
        for number, file in enumerate(self.layout.files):
            paths = [self.folder / file.name, self.folder / (file.name + PARTIAL)]
            if number not in self._pending:
                kept |= {name: rows[name] for name in file.tensors}
                for path in paths:
                    path.unlink(missing_ok=True)
            elif any(path.exists() for path in paths) or not file.tensors:
                kept |= self._found(number, rows)
        return kept

    def _found(self, number: int, rows: Mapping[str, Row]) -> dict[str, Row]:
        sink = self._sink(number)
        kept = {}
        for name in self.layout.files[number].tensors:
            row = rows.get(name)
            spec = self.layout.specs[name]
            if row and stored_digest(sink.read_back, spec, row["span"]) == row["digest"]:
                kept[name] = row
        self._unrecorded[number] -= set(kept)
        self._settled(number, kept)
        return kept

    def turn(self, name: str) -> int:
        """As planned: shard after shard, and within one as the models have it."""
        return self._turns[name]

    def _has_room(self, name: str) -> bool:
        """Whether its shard is one of those that the disk has room for."""
        return self._keeps or self.layout.place(name)[0] in self._pending[:SHARDS_ON_DISK]

    def write(self, name: str, start: int, block: Tensor) -> None:
        """Put entries at their final place. Raises OutputError when the disk refuses, and what sending raised."""
        self._raise_error()
        self._sink(self.layout.place(name)[0]).write(name, start, block)

    def settle(self, name: str) -> None:
        """Return once everything given for a tensor is written; a shard whose last one it is will be sent."""
        number = self.layout.place(name)[0]
        self._sink(number).settle(name)
        self._settled(number, (name,))

    def _sink(self, number: int) -> ShardSink:
        held = self._sinks.get(number)
        if held is not None:
            return held
        with self._changed:
            if number not in self._sinks:
                self._sinks[number] = ShardSink(self.folder, self.layout.only(number))
            return self._sinks[number]

    def _settled(self, number: int, names: Iterable[str]) -> None:
        with self._changed:
            self._unsettled[number].difference_update(names)
            if not self._unsettled[number]:
                self._whole.append(number)
                self._changed.notify_all()

    def _ready(self) -> int | None:
        return self._whole.popleft() if self._whole else None

    def _send(self, item: int) -> None:
        path = self._sinks[item].seal()[0]
        name = self.layout.files[item].name
        self._arrive(item, self._arrived.get(name) or self.delivery.send(name, path))

    def _let_go(self, number: int) -> None:
        if not self._keeps:
            self._sinks.pop(number).discard()

    def _give_up(self) -> None:
        """What is on disk stays, for the run to go on."""
