"""Pieces of remote files held in memory: fetched ahead in the background, the least recently used dropped first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from threading import Lock

# One request: small ones spend their time waiting, large ones are lost whole when a connection breaks.
PAGE_BYTES = 8 << 20
# What all files together may hold; what has been asked for and not yet arrived counts.
BUDGET_BYTES = 256 << 20
CONNECTIONS = 8

Fetch = Callable[[], bytes]


class Pages:
    """Fetched pieces by key, within a budget of bytes, from several threads."""

    def __init__(self, budget: int = BUDGET_BYTES, connections: int = CONNECTIONS):
        self._budget = budget
        self._held: OrderedDict[Hashable, tuple[Future[bytes], int]] = OrderedDict()
        self._nbytes = 0
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="merging-hub")

    def get(self, key: Hashable, nbytes: int, fetch: Fetch) -> bytes:
        """A piece, fetched now if need be. Raises what fetching raises; a piece that failed is asked for anew."""
        with self._lock:
            future = self._started(key, nbytes, fetch)
            self._held.move_to_end(key)
            self._make_room()
        try:
            return future.result()
        except BaseException:
            self._drop(key, future)
            raise

    def ask(self, key: Hashable, nbytes: int, fetch: Fetch) -> bool:
        """Have a piece fetched in the background; False where the budget has no room for it."""
        with self._lock:
            if key in self._held:
                return True
            self._make_room(nbytes)
            if self._nbytes + nbytes > self._budget:
                return False
            self._started(key, nbytes, fetch)
            return True

    def forget(self, keys: Callable[[Hashable], bool]) -> None:
        """Let go of all pieces whose key is one of `keys`."""
        with self._lock:
            for key in [key for key in self._held if keys(key)]:
                self._remove(key)

    def _started(self, key: Hashable, nbytes: int, fetch: Fetch) -> Future[bytes]:
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = (self._threads.submit(fetch), nbytes)
            self._nbytes += nbytes
        return held[0]

    def _make_room(self, nbytes: int = 0) -> None:
        """Drop the oldest pieces that have arrived until `nbytes` more fit; the newest one stays."""
        for key in list(self._held)[:-1]:
            if self._nbytes + nbytes <= self._budget:
                return
            if self._held[key][0].done():
                self._remove(key)

    def _drop(self, key: Hashable, future: Future[bytes]) -> None:
        with self._lock:
            if self._held.get(key, (None, 0))[0] is future:
                self._remove(key)

    def _remove(self, key: Hashable) -> None:
        future, nbytes = self._held.pop(key)
        self._nbytes -= nbytes
        with suppress(RuntimeError):
            future.cancel()


@cache
def shared_pages() -> Pages:
    """The pieces of the whole program: one budget, however many models are open."""
    return Pages()
