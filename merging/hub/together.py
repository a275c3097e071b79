"""Several pieces of work at the same time, so that an interrupt need not wait for any of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")


def done_together(works: Sequence[Callable[[], T]], threads: int) -> list[T]:
    """What all of them return, in their order, at most `threads` at the same time.

    After an error no further one is begun, those that run are waited for, and it is raised. An interrupt is raised at
    once: a thread in the middle of an upload cannot be stopped, and ends with the program.
    """
    waiting: SimpleQueue[int] = SimpleQueue()
    ended: SimpleQueue[tuple[int, T | None, BaseException | None]] = SimpleQueue()
    stop = Event()

    def labour() -> None:
        while not stop.is_set():
            try:
                i = waiting.get_nowait()
            except Empty:
                return
            try:
                ended.put((i, works[i](), None))
            except BaseException as error:
                stop.set()
                ended.put((i, None, error))

    for i in range(len(works)):
        waiting.put(i)
    at_work = [Thread(target=labour, daemon=True, name="merging-together") for _ in range(min(threads, len(works)))]
    for thread in at_work:
        thread.start()
    found: dict[int, T] = {}
    try:
        for _ in works:
            i, result, error = ended.get()
            if error is not None:
                raise error
            found[i] = result  # type: ignore[assignment]
    except Exception:
        for thread in at_work:
            thread.join()
        raise
    finally:
        stop.set()
    return [found[i] for i in range(len(works))]
