"""What is merged and not yet sent: a thread of its own sends it, and the journal remembers what has arrived.

There are two ways. `WholeShards` (merging/engine/whole.py) writes a shard to disk, sends it and removes it;
`StreamedShards` (merging/engine/streamed.py) sends bytes in the order of the file and keeps in memory what comes out of
turn. In both a tensor is not begun before there is room for it, and a worker that must wait waits for the sending
thread alone, never for another worker, so that nobody can wait for himself.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from merging.checkpoint.layout import Layout
from merging.engine.delivery import Delivery, Sent
from merging.engine.events import Delivered
from merging.engine.journal import Journal
from merging.engine.ledger import Row
from merging.engine.pools import Stopped
from merging.lazy import Tensor

# Seconds between two looks at whether the run has been stopped, and how long a stopped sender is waited for.
LOOK_SECONDS, GRACE_SECONDS = 0.2, 2.0


def still_there(layout: Layout, delivery: Delivery, journal: Journal) -> dict[str, Sent]:
    """What an earlier run sent and need not be sent again: whole files of this layout, still held where they went."""
    files = {file.name: file for file in layout.files}
    found: dict[str, Sent] = {}
    for name, sent in journal.sent.items():
        file = files.get(name)
        if file and file.size == sent.size and all(tensor in journal.merged for tensor in file.tensors):
            found |= {name: sent} if delivery.holds(sent) else {}
    return found


class Outbox(ABC):
    """A target of merged entries that sends them on, and remembers in the journal what has arrived.

    A shard is remembered once all its tensors are in the journal: what is not there would have to be merged again.
    """

    way: str

    def __init__(self, layout: Layout, delivery: Delivery, journal: Journal, arrived: Mapping[str, Sent]):
        self.layout = layout
        self.delivery = delivery
        self._journal = journal
        self._arrived = dict(arrived)
        # Numbers of the files that this run has still to make or to send.
        self._pending = [i for i, file in enumerate(layout.files) if file.name not in self._arrived]
        self._unrecorded = [set(file.tensors) for file in layout.files]
        self._unremembered: dict[int, Sent] = {}
        self._events: deque[Delivered] = deque()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._wake: Callable[[], None] = lambda: None
        self._error: BaseException | None = None
        self._ended = self._closed = False
        self._thread = threading.Thread(target=self._labour, name="merging-outbox", daemon=True)

    @property
    @abstractmethod
    def disk_bytes(self) -> int:
        """Bytes that this way takes in the output folder at most, at a time."""

    @abstractmethod
    def write(self, name: str, start: int, block: Tensor) -> None:
        """Entries from `start` on, in the stored dtype; the block is given away."""

    @abstractmethod
    def settle(self, name: str) -> None:
        """Everything of a tensor has been given."""

    @abstractmethod
    def turn(self, name: str) -> int:
        """The place of a tensor in the order in which they are best made."""

    def admits(self, name: str) -> bool:
        """Whether a tensor may be begun. Raises what sending raised: what is made now would go nowhere."""
        self._raise_error()
        return self._has_room(name)

    @abstractmethod
    def _has_room(self, name: str) -> bool:
        """Whether there is room for a tensor; asked by threads that hold a lock, so it takes none."""

    @abstractmethod
    def keep(self, rows: Mapping[str, Row]) -> dict[str, Row]:
        """The rows of an earlier run whose tensors need not be made again."""

    @abstractmethod
    def _ready(self) -> Any:
        """The next thing to send; None while there is none. The lock is held."""

    @abstractmethod
    def _send(self, item: Any) -> None:
        """Send it, and report a shard that has arrived."""

    @property
    def arrived(self) -> list[Sent]:
        """All shards that are there, in the order of the layout."""
        return [self._arrived[file.name] for file in self.layout.files if file.name in self._arrived]

    @property
    def kept_bytes(self) -> int:
        """Bytes of what an earlier run has sent."""
        return sum(sent.size for sent in self._arrived.values())

    def attach(self, stop: threading.Event, wake: Callable[[], None]) -> None:
        """Begin to send. Waits end once `stop` is set; `wake` is called when there are new events."""
        self._stop, self._wake = stop, wake
        self._thread.start()

    def recorded(self, name: str) -> None:
        """A tensor is in the journal."""
        number, _ = self.layout.place(name)
        with self._changed:
            self._unrecorded[number].discard(name)
            self._remember(number)

    def events(self) -> Iterator[Delivered]:
        """What has arrived since the last call."""
        while self._events:
            yield self._events.popleft()

    def finish(self) -> Iterator[Delivered]:
        """Wait until everything has arrived. Raises what sending raised."""
        while True:
            with self._changed:
                self._raise_error()
                left = bool(self._pending)
                if left and not self._events:
                    self._changed.wait(LOOK_SECONDS)
            yield from self.events()
            if not left:
                return

    @property
    def failed(self) -> bool:
        """Whether sending has ended with an error."""
        return self._error is not None

    def close(self) -> None:
        """Stop sending; what is half sent is given up."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(GRACE_SECONDS)
        with self._changed:
            self._closed = True

    def _labour(self) -> None:
        try:
            while (item := self._take()) is not None:
                self._send(item)
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()
        finally:
            self._give_up()

    def _take(self) -> Any:
        with self._changed:
            while not self._ended:
                if (item := self._ready()) is not None:
                    return item
                self._changed.wait()
        return None

    def _arrive(self, number: int, sent: Sent) -> None:
        """Called by the sending thread: a shard is there."""
        with self._changed:
            if not self._closed:
                self._unremembered[number] = sent
                self._remember(number)

    def _remember(self, number: int) -> None:
        """Write down that a shard is there, once all its tensors are. The lock is held."""
        if number in self._unremembered and not self._unrecorded[number]:
            sent = self._unremembered.pop(number)
            if sent.path not in self._arrived:
                self._journal.add_sent(sent)
                self._events.append(Delivered(sent.path, sent.size))
            self._arrived[sent.path] = sent
            self._let_go(number)
            self._pending.remove(number)
            self._changed.notify_all()
            self._wake()

    @abstractmethod
    def _let_go(self, number: int) -> None:
        """A shard need not be held any longer. The lock is held."""

    @abstractmethod
    def _give_up(self) -> None:
        """Nothing more will be sent: called by the sending thread at its end."""

    def _wait(self) -> None:
        """Wait for the sending thread. The lock is held. Raises Stopped."""
        self._raise_error()
        if self._stop.is_set() or self._ended:
            raise Stopped
        self._changed.wait(LOOK_SECONDS)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
