"""Work done at the same time: results in order, errors told, nothing begun after one."""

from __future__ import annotations

from threading import Barrier, Event

import pytest

from merging.hub.together import done_together


def test_results_come_in_the_order_of_the_work_whichever_ends_first() -> None:
    last = Event()

    def slow() -> str:
        assert last.wait(10)
        return "slow"

    def quick() -> str:
        last.set()
        return "quick"

    assert done_together([slow, quick], 2) == ["slow", "quick"]
    assert done_together([], 2) == []


def test_no_more_than_so_many_run_at_the_same_time_and_as_many_do() -> None:
    both = Barrier(2, timeout=10)
    assert sorted(done_together([both.wait] * 6, 2)) == [0, 0, 0, 1, 1, 1]


def test_after_an_error_nothing_is_begun_and_what_runs_is_waited_for() -> None:
    done: list[str] = []
    failed = Event()

    def fail() -> None:
        failed.set()
        raise ValueError("no")

    def run_on() -> None:
        assert failed.wait(10)
        done.append("second")

    with pytest.raises(ValueError, match="no"):
        done_together([fail, run_on], 1)
    assert done == []
    with pytest.raises(ValueError, match="no"):
        done_together([run_on, fail], 2)
    assert done == ["second"]
