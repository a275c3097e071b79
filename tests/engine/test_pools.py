"""The pool: results in order of tasks, earlier works first, memory respected, errors and stops passed on."""

from __future__ import annotations

import threading
from collections.abc import Generator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.engine.lane import Lane
from merging.engine.pools import Pool, Stopped, Task, Work


def results(pool: Pool, works: list[Work]) -> dict[int | None, Any]:
    """What every work returned, by its position."""
    return dict(pool.drive(works))


def stages(sizes: list[int]) -> Work:
    """A work with stages of so many tasks; returns the place of every task as it was handed back."""
    seen = []
    for size in sizes:
        seen.append((yield [Task(partial(lambda place, _: place, place)) for place in range(size)]))
    return seen


@given(st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=8), st.integers(1, 4))
def test_every_work_gets_its_results_in_the_order_of_its_tasks(shape: list[list[int]], workers: int) -> None:
    found = results(Pool(workers, 1000, "cpu"), [stages(sizes) for sizes in shape])
    assert found == {i: [list(range(size)) for size in sizes] for i, sizes in enumerate(shape)}


def test_tasks_in_flight_stay_within_the_memory() -> None:
    held, most, lock = 0, 0, threading.Lock()
    entered = threading.Barrier(2)

    def hold(nbytes: int, _: Lane) -> None:
        nonlocal held, most
        with lock:
            held += nbytes
            most = max(most, held)
        if nbytes == 40:
            entered.wait(timeout=10)
        with lock:
            held -= nbytes

    def work(sizes: list[int]) -> Work:
        yield [Task(partial(hold, nbytes), nbytes) for nbytes in sizes]

    results(Pool(4, 100, "cpu"), [work([40, 40, 70, 70, 90])])
    assert 80 <= most <= 100


def test_a_task_larger_than_the_memory_runs_alone() -> None:
    alone: list[bool] = []
    running = 0

    def count(nbytes: int, _: Lane) -> None:
        nonlocal running
        running += 1
        if nbytes > 100:
            alone.append(running == 1)
        running -= 1

    def work() -> Work:
        yield [Task(partial(count, nbytes), nbytes) for nbytes in (500, 10, 10)]

    results(Pool(3, 100, "cpu"), [work(), work()])
    assert alone == [True, True]


def test_an_error_in_a_task_is_raised_and_stops_the_others() -> None:
    def fail(_: Lane) -> None:
        raise ValueError("this one")

    def wait(pool: Pool, _: Lane) -> None:
        pool.stop.wait(timeout=10)
        raise Stopped

    pool = Pool(2, 100, "cpu")

    def work() -> Work:
        yield [Task(partial(wait, pool)), Task(fail)]

    with pytest.raises(ValueError, match="this one"):
        results(pool, [work()])
    assert results(pool, [stages([2])]) == {0: [[0, 1]]}


def test_leaving_the_results_early_ends_all_threads_and_closes_works() -> None:
    closed = threading.Event()

    def work() -> Generator[list[Task], list[Any], None]:
        try:
            while True:
                yield [Task(lambda _: None)]
        finally:
            closed.set()

    pool = Pool(2, 100, "cpu")
    before = threading.active_count()
    driven = pool.drive([stages([1]), work()])
    next(driven)
    driven.close()  # type: ignore[attr-defined]
    assert closed.is_set() and threading.active_count() == before


def test_emitted_events_come_out_between_results() -> None:
    pool = Pool(1, 100, "cpu")

    def work() -> Work:
        yield [Task(lambda _: pool.emit("halfway"))]
        return "end"

    assert list(pool.drive([work()])) == [(None, "halfway"), (0, "end")]
