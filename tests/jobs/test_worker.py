"""The worker's books: what they say at the end, how much they hold, and what may go wrong with them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from merging.engine.events import Event, RunStarted, TensorDone, Warned
from merging.errors import MatchError, OutputError
from merging.jobs import worker as module
from merging.jobs.files import read_lines
from merging.jobs.job import Job, read_job
from merging.jobs.making import make_job
from merging.jobs.queue import Queue
from merging.jobs.state import read_state
from merging.jobs.worker import Cancelled, Worker


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path / "home", "merge", "merge_method: linear\n", "", tmp_path / "out", lambda _: ("merging",))


@pytest.mark.parametrize(
    ("ending", "state", "code"),
    [
        (None, "done", 0),
        (SystemExit(0), "done", 0),
        (SystemExit(130), "cancelled", 130),
        (KeyboardInterrupt(), "cancelled", 130),
        (Cancelled(), "cancelled", 130),
        (MatchError("of other shapes"), "failed", 1),
        (ZeroDivisionError("by zero"), "failed", 1),
    ],
)
def test_however_it_ends_the_state_says_so(job: Job, ending: BaseException | None, state: str, code: int) -> None:
    with suppress(BaseException), Worker(job.folder) as worker:
        worker.wait_for_turn()
        assert job.state == "running" and job.position is None
        if ending is not None:
            raise ending
    held = read_state(job.folder)
    assert held is not None and (job.state, held.exit_code) == (state, code)
    assert (job.error is None) == (state != "failed")
    assert job.ended is not None and Queue(job.folder.parent).line() == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_flag_that_cancels_wakes_the_main_thread_wherever_it_waits(job: Job) -> None:
    with pytest.raises(Cancelled), Worker(job.folder) as worker:
        worker.wait_for_turn()
        job.cancel()
        threading.Event().wait(60)
    assert job.state == "cancelled"


class Loud:
    """An event that is interrupted while it is written down."""

    def data(self) -> dict[str, str]:
        """What is to be written."""
        os.kill(os.getpid(), signal.SIGTERM)
        return {"text": "whole"}


def test_a_signal_that_comes_while_an_event_is_written_down_waits_for_the_end_of_the_line(job: Job) -> None:
    with pytest.raises(Cancelled), Worker(job.folder) as worker:
        worker.wait_for_turn()
        for _ in worker.watched(iter([Loud()])):
            pytest.fail("the signal was forgotten")
    told = [event for event in job.events() if event["event"] != "Progress"]
    assert [(event["event"], event.get("text")) for event in told][1:] == [("Loud", "whole"), ("Ended", None)]
    assert job.progress.tensors_done == 1


def test_many_small_events_make_few_lines_and_no_warning_is_left_out(job: Job) -> None:
    def events() -> Iterator[Event]:
        yield RunStarted(3000, 1, 1)
        for i in range(3000):
            yield TensorDone(f"w{i}", 4, 0.0, 1)
            if i % 100 == 0:
                yield Warned(f"look at {i}")

    with Worker(job.folder) as worker:
        worker.wait_for_turn()
        assert sum(1 for _ in worker.watched(events())) == 3031
    told = job.events(last=10_000)
    assert [event["text"] for event in told if event["event"] == "Warned"] == [
        f"look at {i}" for i in range(0, 3000, 100)
    ]
    assert not [event for event in told if event["event"] == "TensorDone"] and len(told) < 500
    assert job.progress.tensors_done == 3000 and job.state == "done"


def test_a_full_disk_under_the_events_stops_no_merge(job: Job) -> None:
    (job.folder / "events.jsonl").symlink_to("/dev/full")
    with Worker(job.folder) as worker:
        worker.wait_for_turn()
        list(worker.watched(iter([RunStarted(1, 1, 1), Warned("x")])))
    assert job.state == "done" and job.events() == []


def test_a_job_has_one_worker_and_when_it_is_done_none(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLAIM_SECONDS", 0.0)
    with Worker(job.folder), pytest.raises(OutputError, match="another process"), Worker(job.folder):
        pytest.fail("two workers")
    with pytest.raises(OutputError, match="is done"), Worker(job.folder):
        pytest.fail("done twice")
    assert job.state == "done"


@pytest.mark.parametrize("content", ["", '{"state": "runn', "[]"])
def test_torn_files_make_a_job_lost_and_not_unlistable(job: Job, content: str) -> None:
    (job.folder / "state.json").write_text(content)
    assert job.state == "lost" and job.error is not None and job.progress.share == 0
    (job.folder / "job.json").write_text(content)
    (job.folder / "points.jsonl").write_text('{"point": 0}\n{"po')
    torn = read_job(job.folder)
    assert (torn.id, torn.command, torn.state) == (job.id, (), "lost") and torn.created.year >= 2025
    assert torn.points() == [{"point": 0}]
    with pytest.raises(OutputError, match=r"job\.json"):
        torn.resume()
    torn.cancel()
    assert torn.state == "cancelled"


def test_the_torn_state_of_a_worker_that_lives_is_mended_by_its_next_word(job: Job) -> None:
    with Worker(job.folder) as worker:
        worker.wait_for_turn()
        (job.folder / "state.json").write_text('{"sta')
        list(worker.watched(iter([Warned("still here")])))
        assert job.state == "running"
    assert [line["event"] for line in read_lines(job.folder / "events.jsonl")][-1] == "Ended"
