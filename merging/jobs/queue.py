"""Who is next: one running job per machine and root, all others in the order in which they were handed in.

ROOT/.queue/lock         held while the line changes
ROOT/.queue/last         the last ticket given out
ROOT/.queue/line/        an empty file "ticket-id" for every job that waits or runs
ROOT/.queue/HOST.running held by the worker that runs; the kernel lets go of it however the worker ends
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from merging.errors import OutputError
from merging.jobs.state import read_state

QUEUE_FOLDER = ".queue"


class Queue:
    """The line of one root."""

    def __init__(self, root: Path):
        self.root = root
        self._folder = root / QUEUE_FOLDER
        self._line = self._folder / "line"

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep everybody else from changing the line. Raises OutputError where the root cannot be written."""
        try:
            self._line.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / "lock").open("w")
        except OSError as error:
            raise OutputError(
                f"cannot write in {self.root}: {error.strerror}", fix="set MERGING_HOME to a folder of yours"
            ) from None
        with lock:
            _claim(lock, wait=True)
            yield

    def next_ticket(self) -> int:
        """A number above all that were given out; call it while changing."""
        last = self._folder / "last"
        try:
            given = int(last.read_text(encoding="ascii"))
        except (OSError, ValueError):
            given = 0
        ticket = max([given, *(each for each, _ in self.line())]) + 1
        last.write_text(f"{ticket}\n", encoding="ascii")
        return ticket

    def enter(self, ticket: int, job: str) -> None:
        """Stand in line; those that have left without a word are taken out. Call it while changing."""
        for _, other in self.line():
            if other == job or not self.is_alive(other):
                self.leave(other)
        (self._line / f"{ticket:012}-{job}").touch()

    def leave(self, job: str) -> None:
        """Leave the line; harmless when one does not stand in it."""
        for ticket, other in self.line():
            if other == job:
                with suppress(OSError):
                    (self._line / f"{ticket:012}-{other}").unlink()

    def line(self) -> list[tuple[int, str]]:
        """Tickets and jobs, the first in line first; perhaps with some whose worker is gone."""
        try:
            names = sorted(path.name for path in self._line.iterdir())
        except OSError:
            return []
        entries = (re.fullmatch(r"(\d{12,})-(.+)", name) for name in names)
        return [(int(entry[1]), entry[2]) for entry in entries if entry]

    def is_alive(self, job: str) -> bool:
        """Whether a job waits or runs, on any machine."""
        state = read_state(self.root / job)
        return state is not None and state.alive

    def before(self, ticket: int) -> list[str]:
        """The jobs of this machine that come first, the next one first; the one that runs among them."""
        here = platform.node()
        found = []
        for other, job in self.line():
            state = read_state(self.root / job) if other < ticket else None
            if state is not None and state.host == here and state.alive:
                found.append(job)
        return found

    def place(self, ticket: int) -> int:
        """Place among those that wait, from 1."""
        states = [read_state(self.root / job) for job in self.before(ticket)]
        return 1 + sum(state is not None and state.state != "running" for state in states)

    def take_turn(self) -> IO[str] | None:
        """What the running job of this machine holds, until it is closed; None while another one holds it."""
        self._line.mkdir(parents=True, exist_ok=True)
        host = re.sub(r"[^\w.-]", "_", platform.node()) or "here"
        lock = (self._folder / f"{host}.running").open("w")
        if _claim(lock, wait=False):
            return lock
        lock.close()
        return None


def claim_file(path: Path) -> IO[str] | None:
    """A lock on a file, until it is closed or its holder ends; None while somebody else has it."""
    lock = path.open("w")
    if _claim(lock, wait=False):
        return lock
    lock.close()
    return None


def _claim(lock: IO[str], wait: bool) -> bool:
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
