"""The line of jobs: tickets, places, and what the dead leave behind."""

from __future__ import annotations

import os
from pathlib import Path

from merging.jobs.queue import Queue
from merging.jobs.state import State, beginning


def stand(queue: Queue, job: str, state: str = "waiting", **changes: object) -> int:
    """A job of this very process, in the line."""
    with queue.changing():
        ticket = queue.next_ticket()
        (queue.root / job).mkdir(parents=True)
        held = {"pid": os.getpid(), "began": beginning(os.getpid()) or ""} | changes
        State(state, ticket, **held).write(queue.root / job)  # type: ignore[arg-type]
        queue.enter(ticket, job)
    return ticket


def test_places_count_those_that_wait_and_not_the_one_that_runs(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    stand(queue, "a", "running")
    second, third = stand(queue, "b"), stand(queue, "c")
    assert (queue.place(second), queue.place(third)) == (1, 2)
    assert queue.before(third) == ["a", "b"]


def test_the_dead_and_those_of_other_machines_keep_nobody_waiting(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    stand(queue, "dead", "running", began="long ago")
    stand(queue, "far", "running", host="elsewhere")
    last = stand(queue, "here")
    assert queue.before(last) == []
    assert [job for _, job in queue.line()] == ["far", "here"]


def test_tickets_rise_even_when_the_count_is_lost(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    first = stand(queue, "a")
    (tmp_path / ".queue" / "last").write_text("half a num")
    second = stand(queue, "b")
    (tmp_path / ".queue" / "last").unlink()
    assert first < second < stand(queue, "c")


def test_only_one_can_have_the_turn(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    turn = queue.take_turn()
    assert turn is not None and Queue(tmp_path).take_turn() is None
    turn.close()
    again = queue.take_turn()
    assert again is not None
    again.close()


def test_names_that_are_no_tickets_are_passed_over(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    stand(queue, "a")
    (tmp_path / ".queue" / "line" / "README").touch()
    assert [job for _, job in queue.line()] == ["a"]
    queue.leave("a")
    queue.leave("a")
    assert queue.line() == []
