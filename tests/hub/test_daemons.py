"""Threads for the network: results and errors come through, and nobody waits for them at the end of a program."""

from __future__ import annotations

import subprocess
import sys
from threading import Event

import pytest

from merging.errors import HubError
from merging.hub.daemons import Daemons, outcome


def test_results_and_errors_come_through() -> None:
    daemons = Daemons(2, "test")
    assert [outcome(daemons.submit(lambda i=i: i * i)) for i in range(5)] == [0, 1, 4, 9, 16]  # type: ignore[misc]
    with pytest.raises(ZeroDivisionError):
        outcome(daemons.submit(lambda: 1 // 0))
    with pytest.raises(TimeoutError, match="the work's own"):
        outcome(daemons.submit(_late))


def _late() -> None:
    raise TimeoutError("the work's own")


def test_waiting_ends_when_it_is_told_to() -> None:
    gate, stop, daemons = Event(), Event(), Daemons(1, "test")
    future = daemons.submit(lambda: gate.wait(30))
    stop.set()
    with pytest.raises(HubError, match="stopped"):
        outcome(future, stop)
    gate.set()
    assert outcome(future)


def test_a_program_ends_without_them() -> None:
    code = (
        "from threading import Event\n"
        "from merging.hub.daemons import Daemons\n"
        "d = Daemons(2, 'x')\n"
        "[d.submit(Event().wait) for _ in range(9)]\n"
        "print('ended')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "ended\n"
