"""Pieces of remote files held in memory: fetched ahead in the background, the least recently used dropped first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from threading import Event, Lock

from merging.hub.daemons import Daemons, outcome

# One request: small ones spend their time waiting, large ones are lost whole when a connection breaks.
PAGE_BYTES = 8 << 20
# What all files together may hold; what has been asked for and not yet arrived counts.
BUDGET_BYTES = 256 << 20
CONNECTIONS = 8

Fetch = Callable[[], bytes]


@dataclass(slots=True)
class _Piece:
    """A piece on its way or here; `wanted` as long as it was only asked for."""

    coming: Future[bytes]
    nbytes: int
    wanted: bool = True


class Pages:
    """Fetched pieces by key, within a budget of bytes, from several threads."""

    def __init__(self, budget: int = BUDGET_BYTES, connections: int = CONNECTIONS):
        self._budget = budget
        self._held: OrderedDict[Hashable, _Piece] = OrderedDict()
        self._nbytes = 0
        self._lock = Lock()
        self._threads = Daemons(connections, "merging-hub")

    def get(self, key: Hashable, nbytes: int, fetch: Fetch, stop: Event | None = None) -> bytes:
        """A piece, fetched now if need be. Raises what fetching raises; a piece that failed is asked for anew.

        Whoever waits is let go once `stop` is set, by HubError.
        """
        with self._lock:
            piece = self._started(key, nbytes, fetch)
            piece.wanted = False
            self._held.move_to_end(key)
            self._make_room()
        try:
            return outcome(piece.coming, stop)
        except BaseException:
            self._drop(key, piece)
            raise

    def ask(self, key: Hashable, nbytes: int, fetch: Fetch) -> bool:
        """Have a piece fetched in the background; False where the budget has no room for it.

        Only what has been read makes room: a piece that was asked for and is thrown away would be fetched twice.
        """
        with self._lock:
            if key in self._held:
                return True
            self._make_room(nbytes, spare_wanted=True)
            if self._nbytes + nbytes > self._budget:
                return False
            self._started(key, nbytes, fetch)
            return True

    def forget(self, keys: Callable[[Hashable], bool]) -> None:
        """Let go of all pieces whose key is one of `keys`."""
        with self._lock:
            for key in [key for key in self._held if keys(key)]:
                self._remove(key)

    def _started(self, key: Hashable, nbytes: int, fetch: Fetch) -> _Piece:
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Piece(self._threads.submit(fetch), nbytes)
            self._nbytes += nbytes
        return held

    def _make_room(self, nbytes: int = 0, spare_wanted: bool = False) -> None:
        """Drop the oldest pieces that have arrived until `nbytes` more fit; the newest one stays."""
        for key in list(self._held)[:-1]:
            if self._nbytes + nbytes <= self._budget:
                return
            piece = self._held[key]
            if piece.coming.done() and not (spare_wanted and piece.wanted):
                self._remove(key)

    def _drop(self, key: Hashable, piece: _Piece) -> None:
        with self._lock:
            if self._held.get(key) is piece:
                self._remove(key)

    def _remove(self, key: Hashable) -> None:
        piece = self._held.pop(key)
        self._nbytes -= piece.nbytes
        piece.coming.cancel()


@cache
def shared_pages() -> Pages:
    """The pieces of the whole program: one budget, however many models are open."""
    return Pages()
