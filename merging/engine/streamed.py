"""Shards that are never on disk: their bytes go out in the order of the file, header first, while they are merged."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from merging.checkpoint.bytes import entries_memory
from merging.checkpoint.layout import Layout
from merging.engine.delivery import Delivery, Sent, Stream
from merging.engine.journal import Journal
from merging.engine.ledger import Row
from merging.engine.outbox import Outbox
from merging.errors import OutputError
from merging.lazy import Tensor

# What may wait for the network before workers wait too, and how far ahead of it a tensor may begin.
READY_BYTES, AHEAD_BYTES = 64 << 20, 128 << 20
# So often a worker looks whether the line has moved, some minutes in all.
LONGEST_LOOKS = 1500
# Of all memory that a plan may take, these may not take more than this share together.
MEMORY_SHARE = 1 / 8


@dataclass(frozen=True, slots=True)
class _Piece:
    """The next bytes of a file; `owner` keeps their memory."""

    number: int
    memory: memoryview
    owner: object
    is_last: bool


class StreamedShards(Outbox):
    """An outbox that is a line of bytes over all files still to be sent.

    Blocks ahead of the line wait in memory, AHEAD_BYTES of them, and of tensors that begin as close to its end; whoever
    has more waits. Workers take the first tasks first, so one of them always makes what the line waits for. `memory` is
    that of the plan. Positions are those in the line.
    """

    way = "streamed"

    def __init__(self, layout: Layout, delivery: Delivery, journal: Journal, arrived: Mapping[str, Sent], memory: int):
        super().__init__(layout, delivery, journal, arrived)
        share = min(1.0, memory * MEMORY_SHARE / (READY_BYTES + AHEAD_BYTES))
        self._ready_bytes, self._ahead_bytes = int(READY_BYTES * share), int(AHEAD_BYTES * share)
        self._turns = {name: i for i, name in enumerate(layout.order)}
        self._positions: dict[str, int] = {}
        self._files: deque[tuple[int, int, int]] = deque()
        start = 0
        for number in self._pending:
            file = layout.files[number]
            self._files.append((number, start, start + file.size))
            self._positions |= {name: start + layout.place(name)[1] for name in file.tensors}
            start += file.size
        self._end = 0
        self._early: dict[int, tuple[memoryview, Tensor]] = {}
        self._early_bytes = 0
        self._line: deque[_Piece] = deque()
        self._line_bytes = 0
        self._stream: Stream | None = None
        with self._changed:
            self._line_up()

    def can_stream(self) -> bool:
        """Whether what is still to be sent can be streamed."""
        if not self._pending:
            return True
        file = self.layout.files[self._pending[0]]
        stream = self.delivery.stream(file.name, file.size)
        if stream is not None:
            # Measuring may take hours, in which nothing comes.
            stream.abort()
        return stream is not None

    @property
    def disk_bytes(self) -> int:
        """Nothing is ever on disk."""
        return 0

    def keep(self, rows: Mapping[str, Row]) -> dict[str, Row]:
        """Rows of shards that have arrived; of others there is nothing."""
        return {name: rows[name] for file in self.layout.files if file.name in self._arrived for name in file.tensors}

    def turn(self, name: str) -> int:
        """As in the files."""
        return self._turns[name]

    def _has_room(self, name: str) -> bool:
        """Whether it begins close enough to the end of the line; the tensor that the line waits for always does."""
        return self._positions[name] - self._end <= self._ahead_bytes

    def write(self, name: str, start: int, block: Tensor) -> None:
        """Give entries; returns once there is room for more. Raises what sending raised."""
        if not block.numel():
            return
        block = block.contiguous()
        spec = self.layout.specs[name]
        with self._changed:
            position = self._positions[name] + start * (spec.nbytes // spec.length)
            self._wait_for_turn(position, block.nbytes)
            self._early[position] = (entries_memory(block), block)
            self._early_bytes += block.nbytes
            self._line_up()
            while self._line_bytes > self._ready_bytes:
                self._wait()
            self._raise_error()

    def _wait_for_turn(self, position: int, nbytes: int) -> None:
        """Wait while too much is ahead of the line already; what the line waits for never does. The lock is held.

        Nobody waits for ever: where the line stands still for LONGEST_LOOKS, room in memory matters less.
        """
        looks, end = 0, self._end
        while position > self._end and self._early_bytes + nbytes > self._ahead_bytes and looks < LONGEST_LOOKS:
            self._wait()
            looks, end = (looks + 1, end) if end == self._end else (0, self._end)

    def settle(self, name: str) -> None:
        """Nothing to wait for: the journal trusts what has arrived, and nothing before."""

    def _line_up(self) -> None:
        """Put at the end of the line what belongs there. The lock is held."""
        before = len(self._line)
        while self._files:
            number, start, stop = self._files[0]
            if self._end == start:
                self._append(number, memoryview(self.layout.files[number].header), None, stop)
            while self._end in self._early:
                memory, owner = self._early.pop(self._end)
                self._early_bytes -= len(memory)
                self._append(number, memory, owner, stop)
            if self._end < stop:
                break
            self._files.popleft()
        if len(self._line) > before:
            self._changed.notify_all()

    def _append(self, number: int, memory: memoryview, owner: object, stop: int) -> None:
        self._end += len(memory)
        self._line_bytes += len(memory)
        self._line.append(_Piece(number, memory, owner, self._end == stop))

    def _ready(self) -> _Piece | None:
        return self._line.popleft() if self._line else None

    def _send(self, item: _Piece) -> None:
        if self._stream is None:
            file = self.layout.files[item.number]
            self._stream = self.delivery.stream(file.name, file.size)
            if self._stream is None:
                raise OutputError(
                    f"{self.delivery.place} takes no more files while they are made",
                    where=file.name,
                    fix="run the same command again: it goes on, with whole files",
                )
        self._stream.write(item.memory)
        with self._changed:
            self._line_bytes -= len(item.memory)
            self._changed.notify_all()
        if item.is_last:
            sent, self._stream = self._stream.finish(), None
            self._arrive(item.number, sent)

    def _give_up(self) -> None:
        if self._stream is not None:
            self._stream.abort()

    def _let_go(self, number: int) -> None:
        """Nothing is held."""
