"""Which workers live: by number and beginning on this machine, by their heartbeat elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from merging.errors import CheckpointError, MergingError, ParameterError, Problems
from merging.jobs.state import State, beginning, error_data, error_from, read_state
from tests.jobs.places import TOKEN, until


def running(**changes: object) -> State:
    own = State("running", 1, pid=os.getpid(), began=beginning(os.getpid()) or "")
    return replace(own, **changes)  # type: ignore[arg-type]


def test_a_process_of_this_machine_lives_whatever_the_clock_says() -> None:
    assert running().alive
    assert running(heartbeat=0.0).alive
    assert running(heartbeat=time.time() + 1e6).alive


def test_a_number_that_was_given_to_another_process_is_no_sign_of_life() -> None:
    assert not running(began="earlier boot:17").alive


def test_a_process_that_nobody_has_asked_after_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    held = running(pid=child.pid, began=beginning(child.pid) or "")
    until(lambda: not held.alive)
    assert child.wait() == 0
    assert not held.alive


def test_of_another_machine_only_the_heartbeat_tells() -> None:
    far = running(host="elsewhere", pid=1)
    assert far.alive
    assert not replace(far, heartbeat=time.time() - 3600).alive
    assert not replace(far, heartbeat=time.time() + 3600).alive


def test_a_job_without_a_worker_is_alive_for_a_moment_only() -> None:
    assert State().alive
    assert not State(heartbeat=time.time() - 3600).alive
    assert not replace(running(), state="done").alive


@pytest.mark.parametrize("content", [b"", b'{"state": "runn', b'{"ticket": 3}', b'{"state": 7}'])
def test_half_a_state_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    assert read_state(tmp_path) is None


def test_fields_of_a_wrong_kind_are_left_out(tmp_path: Path) -> None:
    odd = {"state": "running", "pid": "7", "heartbeat": "now", "progress": [1], "error": 3, "more": 1, "ticket": 4}
    (tmp_path / "state.json").write_text(json.dumps(odd))
    found = read_state(tmp_path)
    assert found == State("running", 4, heartbeat=0.0) and not found.alive


def test_errors_come_back_as_they_were_written() -> None:
    first = ParameterError("density is 2", where="line 3", must_be="in [0, 1]", fix="write 0.2")
    several = Problems([first, CheckpointError("no tensors")])
    back = error_from(json.loads(json.dumps(error_data(several))))
    assert isinstance(back, Problems)
    assert [(type(each), str(each)) for each in back.problems] == [
        (ParameterError, str(first)),
        (CheckpointError, "no tensors"),
    ]


def test_errors_of_other_kinds_and_torn_ones_are_plain_and_hold_no_token() -> None:
    back = error_from(error_data(ValueError(f"denied for {TOKEN} " + "x" * 5000)))
    assert type(back) is MergingError and "ValueError: denied for [token]" in str(back) and len(str(back)) < 1200
    assert type(error_from({"kind": "Sequence", "what": 3})) is MergingError
    assert "not written down" in str(error_from({"kind": "Problems", "problems": []}))
