"""Where work runs: a few threads that carry many stepwise works at once, in order, within a memory budget.

A work is a generator. It yields one stage at a time, a list of tasks that may run side by side; it is sent their
results, in the order of the tasks, and returns when it is complete. Earlier works come first, so that few are ever
open at once. torch's own threads are set to one inside workers: blocks are too small to share.
"""

from __future__ import annotations

import gc
import heapq
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from merging.engine.lane import Lane, keep_freed_memory
from merging.lazy import torch

# Seconds between two looks at whether a work that was held back may begin.
LOOK_SECONDS = 0.02


class Stopped(Exception):
    """Raised inside a task that is asked to stop; never seen by callers."""


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of a stage; `nbytes` is the memory it takes beyond the worker's cache blocks."""

    run: Callable[[Lane], Any]
    nbytes: int = 0


Work = Generator[list[Task], list[Any], Any]


@dataclass(slots=True)
class _Open:
    """A work that has started: the results its present stage still waits for."""

    work: Work
    waiting: int = 0
    results: list[Any] = field(default_factory=list)


def _always(_: int) -> bool:
    return True


class Pool:
    """Threads with one lane each. `drive` runs works to their end and yields (position, what the work returned)."""

    def __init__(self, workers: int, memory: int, device: str):
        self.stop = threading.Event()
        self._workers = workers
        self._memory = memory
        self._device = device
        self._lock = threading.Condition()
        self._tasks: list[tuple[int, int, Task]] = []
        self._open: dict[int, _Open] = {}
        self._in_use = 0
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._works: Iterator[tuple[int, Work]] = iter(())
        self._admits: Callable[[int], bool] = _always
        self._begun = 0
        self._held_back = False

    def emit(self, event: Any) -> None:
        """Hand something to whoever iterates `drive`, from any thread; it comes out as (None, event)."""
        self._done.put((None, event))

    def drive(
        self, works: Iterable[Work], admits: Callable[[int], bool] | None = None
    ) -> Iterator[tuple[int | None, Any]]:
        """Run all works; results come as they complete. An error in a task stops the others and is raised here.

        A work begins once `admits` is true of its position; it is asked again and again, by threads that hold a lock.
        """
        self._works = iter(enumerate(works))
        self._admits, self._begun, self._held_back = admits or _always, 0, False
        self._done = queue.SimpleQueue()
        threads = [threading.Thread(target=self._labour, daemon=True) for _ in range(self._workers)]
        for thread in threads:
            thread.start()
        running = len(threads)
        # Blocks come and go by the thousand; without this every full collection walks all that torch has imported.
        gc.freeze()
        try:
            while running:
                position, result = self._done.get()
                if position == -1:
                    running -= 1
                    if result is not None:
                        raise result
                else:
                    yield position, result
        finally:
            self.stop.set()
            with self._lock:
                self._lock.notify_all()
            for thread in threads:
                thread.join()
            for opened in self._open.values():
                opened.work.close()
            self._open.clear()
            self._tasks.clear()
            self._in_use = 0
            self.stop.clear()
            gc.unfreeze()

    def _labour(self) -> None:
        error: BaseException | None = None
        try:
            torch.set_num_threads(1)
            keep_freed_memory()
            lane = Lane(self._device)
            with torch.inference_mode(), lane.stream():
                while (item := self._next()) is not None:
                    self._complete(item, item[2].run(lane))
        except Stopped:
            pass
        except BaseException as raised:
            error = raised
            self.stop.set()
            with self._lock:
                self._lock.notify_all()
        self._done.put((-1, error))

    def _next(self) -> tuple[int, int, Task] | None:
        with self._lock:
            while not self.stop.is_set():
                if not self._tasks and self._start_next():
                    continue
                if self._tasks and (not self._in_use or self._in_use + self._tasks[0][2].nbytes <= self._memory):
                    item = heapq.heappop(self._tasks)
                    self._in_use += item[2].nbytes
                    return item
                if not self._open and not self._held_back:
                    return None
                self._lock.wait(LOOK_SECONDS if self._held_back else None)
        return None

    def _start_next(self) -> bool:
        self._held_back = not self._admits(self._begun)
        started = None if self._held_back else next(self._works, None)
        if started is None:
            return False
        self._begun += 1
        position, work = started
        self._open[position] = _Open(work)
        self._advance(position, None)
        return True

    def _complete(self, item: tuple[int, int, Task], result: Any) -> None:
        position, place, task = item
        with self._lock:
            self._in_use -= task.nbytes
            opened = self._open[position]
            opened.results[place] = result
            opened.waiting -= 1
            if not opened.waiting:
                self._advance(position, opened.results)
            self._lock.notify_all()

    def _advance(self, position: int, results: list[Any] | None) -> None:
        """Send a work its results; queue its next stage, or report what it returned. The lock is held."""
        opened = self._open[position]
        try:
            stage = opened.work.send(results)  # type: ignore[arg-type]
            while not stage:
                stage = opened.work.send([])
        except StopIteration as end:
            del self._open[position]
            self._done.put((position, end.value))
            self._lock.notify_all()
            return
        opened.waiting = len(stage)
        opened.results = [None] * len(stage)
        for place, task in enumerate(stage):
            heapq.heappush(self._tasks, (position, place, task))
        self._lock.notify_all()
