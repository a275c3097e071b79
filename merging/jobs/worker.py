"""The side of a job that does the work: claims its folder, waits for its turn, tells how far it is, ends as it ends.

    with Worker(folder) as worker:
        worker.wait_for_turn()
        for event in worker.watched(run(plan, out)): ...

A thread keeps the heartbeat and looks for the flag that cancels. It then signals the main thread, as SIGTERM from
outside does; there `Cancelled` is raised, once, wherever the work is.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

from merging.engine.events import Sealed
from merging.errors import OutputError
from merging.jobs.files import Lines
from merging.jobs.progress import Tally
from merging.jobs.queue import Queue, claim_file
from merging.jobs.state import (
    CANCEL_FILE,
    ENDED,
    EVENTS_FILE,
    State,
    beginning,
    error_data,
    read_state,
)

T = TypeVar("T")

# Seconds between two looks at the cancel flag and the line, between two heartbeats, and between two lines of progress.
LOOK_SECONDS, BEAT_SECONDS, PROGRESS_SECONDS = 0.2, 2.0, 0.25
# How long a worker waits for the one before it to let go of the job.
CLAIM_SECONDS = 5.0
CANCELLED = 130


class Cancelled(KeyboardInterrupt):
    """Somebody asked the job to stop. Like an interrupt from the keyboard, it is no error."""


class Worker(AbstractContextManager["Worker"]):
    """One process at work on one job. Raises OutputError when another has it, or when it is over."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self._queue = Queue(self.folder.parent)
        self._state = State()
        self._tally = Tally()
        self._told = 0.0
        # Whether somebody wants it to stop; whether that would come too late; whether our books are open.
        self._asked, self._deaf, self._busy = False, False, 0
        self._ended = threading.Event()
        self._writing = threading.Lock()
        self._locks: list[IO[str]] = []
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> Worker:
        self._claim()
        held = read_state(self.folder)
        if held is not None and held.state == "done":
            self._locks.pop().close()
            raise OutputError(f"the job {self.folder.name} is done", fix="submit the recipe again, as a new job")
        ticket = self._ticket(held)
        self._state = State("waiting", ticket, pid=os.getpid(), began=beginning(os.getpid()) or "")
        self._write()
        self._events = Lines(self.folder / EVENTS_FILE)
        self.tell({"event": "Started", "pid": os.getpid(), "host": self._state.host})
        if threading.current_thread() is threading.main_thread():
            self._earlier = {each: signal.signal(each, self._on_signal) for each in (signal.SIGTERM, signal.SIGINT)}
        self._watch = threading.Thread(target=self._keep_watch, daemon=True)
        self._watch.start()
        return self

    def _claim(self) -> None:
        """A worker that has just written down its end needs a moment to let go."""
        deadline = time.monotonic() + CLAIM_SECONDS
        while (lock := claim_file(self.folder / ".worker")) is None:
            if time.monotonic() > deadline:
                raise OutputError(
                    f"another process is at work on {self.folder}", fix="wait for it, or cancel it with `merging jobs`"
                )
            time.sleep(LOOK_SECONDS)
        self._locks.append(lock)

    def _ticket(self, held: State | None) -> int:
        """The ticket it was given; a new one when its worker was started by hand or the line was swept away."""
        known = {job: ticket for ticket, job in self._queue.line()}.get(self.folder.name)
        if known is not None and held is not None and held.state not in ENDED:
            return known
        with self._queue.changing():
            ticket = self._queue.next_ticket()
            self._queue.enter(ticket, self.folder.name)
        return ticket

    def wait_for_turn(self) -> None:
        """Return when no job of this machine comes before. Raises Cancelled, and OutputError without a folder."""
        place = 0
        while (turn := self._turn()) is None:
            now = self._queue.place(self._state.ticket)
            if now != place:
                place = now
                self.tell({"event": "Waiting", "position": place})
            time.sleep(LOOK_SECONDS)
        self._locks.append(turn)
        with self._undisturbed():
            self._change(state="running", started=time.time())

    def _turn(self) -> IO[str] | None:
        if not self.folder.is_dir():
            raise OutputError(f"the folder of the job is gone: {self.folder}", fix="submit the recipe again")
        with self._undisturbed():
            return None if self._queue.before(self._state.ticket) else self._queue.take_turn()

    def expect(self, pieces: int, kept: int) -> None:
        """What is watched from now on are so many pieces of work, `kept` of them done by an earlier run."""
        self._tally.expect(pieces, kept)
        with self._undisturbed():
            self._change(progress=self._tally.data())

    def expect_files(self, files: int, nbytes: int) -> None:
        """What is watched from now on is the sending of so many files."""
        self._tally.expect_files(files, nbytes)
        with self._undisturbed():
            self._change(progress=self._tally.data())

    def sent(self, path: str, done: int, size: int, held: bool) -> None:
        """So much of a file has been sent. May be called from any thread; the main one is where Cancelled is raised."""
        ended = self._tally.send(path, done, size, held)
        if threading.current_thread() is not threading.main_thread():
            self._tell_sent(path, size, held, ended)
            return
        with self._undisturbed():
            self._tell_sent(path, size, held, ended)

    def _tell_sent(self, path: str, size: int, held: bool, ended: bool) -> None:
        if ended:
            self.tell({"event": "Sent", "path": path, "size": size, "held": held})
        self._tell_progress(ended)

    def published(self, entry: Mapping[str, Any]) -> None:
        """It is done, and whoever wants to stop it now comes too late."""
        with self._undisturbed():
            self._deaf = True
            self._tally.finish_files()
            self.tell({"event": "Published", **entry})

    def watched(self, events: Generator[T, None, Any] | Iterator[T]) -> Generator[T]:
        """The same events, each counted and written down before it is passed on; closed in any case."""
        try:
            for event in events:
                with self._undisturbed():
                    self._count(event)
                yield event
        finally:
            if isinstance(events, Generator):
                events.close()

    def _count(self, event: Any) -> None:
        told = self._tally.add(event)
        if told:
            self.tell(_entry(event))
        if isinstance(event, Sealed):
            self._deaf = True
        self._tell_progress(told)

    def _tell_progress(self, now: bool) -> None:
        if now or time.monotonic() - self._told >= PROGRESS_SECONDS:
            self._told = time.monotonic()
            self.tell({"event": "Progress", **self._tally.data()})
            self._change(progress=self._tally.data())

    def tell(self, entry: Mapping[str, Any]) -> None:
        """Append a line to the events; a disk that is full does not stop the work."""
        self._events.add({"time": round(time.time(), 3), **entry})

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._deaf = True
        self._ended.set()
        self._watch.join()
        changes = _outcome(error)
        if changes["error"] is not None:
            self.tell({"event": "Failed", **changes["error"]})
        self.tell({"event": "Ended", "state": changes["state"]})
        self._change(ended=time.time(), progress=self._tally.data(), **changes)
        self._events.close()
        self._queue.leave(self.folder.name)
        for lock in reversed(self._locks):
            lock.close()
        for number, earlier in self._earlier.items():
            signal.signal(number, earlier)

    def _keep_watch(self) -> None:
        beaten = time.monotonic()
        while not self._ended.wait(LOOK_SECONDS):
            if not self._asked and (self.folder / CANCEL_FILE).exists():
                self._asked = True
                if self._earlier:
                    _wake_main_thread()
            if time.monotonic() - beaten >= BEAT_SECONDS:
                beaten = time.monotonic()
                self._change()

    def _on_signal(self, *_: object) -> None:
        """In the main thread, anywhere in its work; between the lines of our own books it only makes a note."""
        self._asked = True
        if not self._busy:
            self._obey()

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
        self._obey()

    def _obey(self) -> None:
        if self._asked and not self._deaf:
            self._deaf = True
            raise Cancelled

    def _change(self, **changes: Any) -> None:
        with self._writing:
            self._state = dataclasses.replace(self._state, heartbeat=time.time(), **changes)
            self._write()

    def _write(self) -> None:
        # Without room on the disk, or with the folder removed by hand, the merge itself may still be carried out.
        with suppress(OSError):
            self._state.write(self.folder)


def _entry(event: Any) -> dict[str, Any]:
    data = event.data() if hasattr(event, "data") else dataclasses.asdict(event)
    return {"event": type(event).__name__, **data}


def _outcome(error: BaseException | None) -> dict[str, Any]:
    code = error.code if isinstance(error, SystemExit) else None
    if error is None or (isinstance(error, SystemExit) and not code):
        return {"state": "done", "exit_code": 0, "error": None}
    if isinstance(error, KeyboardInterrupt) or code == CANCELLED:
        return {"state": "cancelled", "exit_code": CANCELLED, "error": None}
    number = code if isinstance(code, int) else 1
    return {"state": "failed", "exit_code": number, "error": error_data(error)}


def _wake_main_thread() -> None:
    """A real signal, to that thread: nothing else ends a wait in it."""
    if hasattr(signal, "pthread_kill"):
        with suppress(ProcessLookupError):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    else:
        import _thread

        _thread.interrupt_main(signal.SIGTERM)
