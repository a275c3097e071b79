"""Threads for the network that no program waits for at its end: an interrupt ends it, whatever is still on its way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, TypeVar

from merging.errors import HubError

T = TypeVar("T")
# Seconds between two looks at whether who waits has been told to stop.
LOOK_SECONDS = 0.2


class Daemons:
    """A few threads that take work as it comes; begun when they are first needed."""

    def __init__(self, threads: int, name: str):
        self._threads = threads
        self._name = name
        self._begun = 0
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._beginning = Lock()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have work done; a future that is cancelled before its turn is passed over."""
        future: Future[T] = Future()
        self._work.put((future, work))
        with self._beginning:
            if self._begun < self._threads:
                self._begun += 1
                Thread(target=self._labour, daemon=True, name=f"{self._name}-{self._begun}").start()
        return future

    def _labour(self) -> None:
        while True:
            future, work = self._work.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)


def outcome(future: Future[T], stop: Event | None = None) -> T:
    """What a future brings. Raises what it raised, and HubError as soon as `stop` is set."""
    while True:
        try:
            return future.result(LOOK_SECONDS)
        except NotYet:
            # Python 3.11 has one class for this and for a timeout that the work itself raised.
            if future.done():
                return future.result()
            if stop is not None and stop.is_set():
                raise HubError("stopped while waiting for the Hub") from None
