"""One job, as everybody but its worker sees it: everything is read from its folder, at the moment one asks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

from merging.engine.folder import LEDGER
from merging.errors import CheckpointError, MergingError, OutputError
from merging.jobs.files import lines_from, read_json, read_lines
from merging.jobs.options import value_of
from merging.jobs.progress import Progress, progress_from
from merging.jobs.queue import Queue
from merging.jobs.spawn import spawn
from merging.jobs.state import (
    CANCEL_FILE,
    ENDED,
    EVENTS_FILE,
    JOB_FILE,
    LOG_FILE,
    POINTS_FILE,
    RECIPE_FILE,
    State,
    error_data,
    error_from,
    read_state,
)
from merging.planning.check import STATE as UNFINISHED

Kind = Literal["merge", "sweep", "push"]
JobState = Literal["queued", "running", "done", "failed", "cancelled", "lost"]
LOG_BYTES = 1 << 16


@dataclass(frozen=True)
class Job:
    """A merge, a sweep or a push in a process of its own, and the folder through which one watches and stops it.

    `out` is where the merge goes; of a sweep, the file of its points; of a push, the folder that is published.
    `command` is what one would type. `number` counts the jobs of a root in the order in which they were handed in; 0
    where the folder no longer says.
    """

    id: str
    kind: Kind
    name: str
    folder: Path
    out: Path
    command: tuple[str, ...]
    created: datetime
    number: int = field(default=0, compare=False)

    @property
    def state(self) -> JobState:
        """queued, running, done, failed, cancelled; lost when it says that it runs and its process is gone."""
        held = read_state(self.folder)
        if held is None:
            return "lost"
        if held.state in ENDED:
            return cast("JobState", held.state)
        if not held.alive:
            return "lost"
        return "running" if held.state == "running" else "queued"

    @property
    def progress(self) -> Progress:
        """How far it is, as its worker wrote it down last: a quarter of a second ago at most, while bytes move."""
        held = read_state(self.folder)
        return progress_from(held.progress, self.state) if held else Progress()

    @property
    def position(self) -> int | None:
        """Place among the jobs that wait for their turn on this machine, from 1; None when it does not wait."""
        held = read_state(self.folder)
        if held is None or self.state != "queued":
            return None
        return Queue(self.folder.parent).place(held.ticket)

    @property
    def is_stopping(self) -> bool:
        """Whether it waits or runs still, and was asked to stop."""
        return (self.folder / CANCEL_FILE).exists() and self.state in ("queued", "running")

    @property
    def started(self) -> datetime | None:
        """When its turn came."""
        held = read_state(self.folder)
        return _moment(held.started) if held else None

    @property
    def ended(self) -> datetime | None:
        """When it was over; None while it is not, and for lost ones."""
        held = read_state(self.folder)
        return _moment(held.ended) if held else None

    @property
    def recipe(self) -> str:
        """The recipe's text; empty where it was removed."""
        try:
            return (self.folder / RECIPE_FILE).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return ""

    @property
    def method(self) -> str:
        """The merge method of the recipe; empty where there is none to read."""
        found = re.search(r"^\s*[\"']?merge_method[\"']?\s*:\s*[\"']?([\w-]+)", self.recipe, re.MULTILINE)
        return found[1] if found else ""

    @property
    def repository(self) -> str:
        """Where a push goes, or a merge that is sent while it is made: `owner/name`, or with `@branch`; else empty."""
        if self.kind == "push":
            return self.command[3] if len(self.command) > 3 else ""
        return value_of(self.command, "--push") if self.kind == "merge" else ""

    @property
    def keeps_weights(self) -> bool:
        """Whether a finished merge has its weights in `out`: not where they were sent to the Hub alone."""
        return self.kind == "merge" and (not self.repository or "--keep-weights" in self.command)

    @property
    def published(self) -> Mapping[str, Any] | None:
        """What stands on the Hub at the end: `repository`, `commit`, its `url`, `pull_request` where it opened one."""
        told = (event for event in reversed(self.events(20)) if event.get("event") == "Published")
        return next(told, None) if self.state == "done" else None

    @property
    def error(self) -> MergingError | None:
        """Why it failed or was lost; None for all others."""
        state, held = self.state, read_state(self.folder)
        if state == "failed" and held is not None:
            return error_from(held.error or {})
        if state != "lost":
            return None
        last = self.log().strip().splitlines()[-1:]
        return OutputError(
            "the process of this job is gone, and did not say why" if held else f"{self.id} has no readable state",
            where=last[0] if last else str(self.folder),
            fix=f"`merging jobs resume {self.id}` goes on where it stopped; if it is killed again, it may lack memory: "
            "submit it with a smaller --memory or fewer --workers",
        )

    def log(self) -> str:
        """The end of what the worker printed."""
        try:
            with (self.folder / LOG_FILE).open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def events(self, last: int = 200) -> list[dict[str, Any]]:
        """The last events, oldest first: `time`, `event` (its kind) and the fields of that kind."""
        return read_lines(self.folder / EVENTS_FILE, last)

    def events_from(self, position: int) -> tuple[list[dict[str, Any]], int]:
        """All events from a place on, 0 at first, and the place from which to ask the next time."""
        return lines_from(self.folder / EVENTS_FILE, position)

    def points(self) -> list[dict[str, Any]]:
        """What a sweep has found so far, in the order of its grid: `point`, `values`, `scores`, `mean`, `error`, …"""
        found = {
            row["point"]: row for row in read_lines(self.folder / POINTS_FILE) if isinstance(row.get("point"), int)
        }
        return [found[point] for point in sorted(found)]

    def ledger(self) -> list[dict[str, Any]]:
        """What every tensor got; while the merge is not finished, of those that are. Raises CheckpointError.

        Rows are those of merging-ledger.jsonl: tensor, rule, method, parameters, operands with norm and share, digest.
        """
        if self.kind != "merge":
            return []
        rows = read_lines(self.out / LEDGER) or read_lines(self.out / UNFINISHED / "journal.jsonl")
        if not rows and self.state == "done":
            raise CheckpointError(
                f"there is no ledger in {self.out}",
                must_be="the folder that this job has written",
                fix="it was moved or removed since",
            )
        return [row for row in rows if "tensor" in row and row.get("stage") != "spool"]

    def cancel(self) -> None:
        """Ask it to stop; it does so within about a block, and can go on later. Raises OutputError when it is over."""
        state = self.state
        if state in ENDED:
            raise OutputError(f"{self.id} is {state} already", must_be="a job that waits or runs")
        try:
            (self.folder / CANCEL_FILE).touch()
            if state == "lost":
                self._change(replace(read_state(self.folder) or State(), state="cancelled", exit_code=130, error=None))
                Queue(self.folder.parent).leave(self.id)
        except OSError as error:
            raise OutputError(f"cannot cancel {self.id}: {error.strerror}", where=str(self.folder)) from None

    def resume(self, *, token: str | None = None) -> Job:
        """Put it back in the line, to go on where it stopped. Raises OutputError when it waits, runs or is done.

        `token` is for the Hub, by default that of the environment; it is handed to the worker and written nowhere.
        """
        if not self.command:
            raise OutputError(
                f"{self.folder / JOB_FILE} cannot be read",
                fix="submit the recipe again: " + shlex.quote(str(self.folder / RECIPE_FILE)),
            )
        queue = Queue(self.folder.parent)
        with queue.changing():
            state = self.state
            if state in ("queued", "running", "done"):
                fix = "submit it again, to another folder" if state == "done" else "wait for it, or cancel it first"
                raise OutputError(f"{self.id} is {state}", must_be="failed, cancelled or lost", fix=fix)
            (self.folder / CANCEL_FILE).unlink(missing_ok=True)
            ticket = queue.next_ticket()
            self._change(State(ticket=ticket))
            queue.enter(ticket, self.id)
        self.start(token)
        return self

    def start(self, token: str | None = None) -> None:
        """Start its worker. Raises OutputError."""
        # What is there already is to be kept, whatever the first run was asked to leave.
        command = [word for word in self.command if word != "--no-resume"]
        try:
            spawn(command, self.folder, token)
        except MergingError as error:
            self._change(State("failed", exit_code=1, error=error_data(error)))
            Queue(self.folder.parent).leave(self.id)
            raise

    def again(self) -> tuple[str, Path]:
        """The recipe's text, and a new folder beside the last one, to start from for one more merge."""
        stem = re.sub(r"-\d+$", "", self.out.name) or "merged"
        number = 2
        while (fresh := self.out.with_name(f"{stem}-{number}")).exists():
            number += 1
        return self.recipe, fresh

    def _change(self, state: State) -> None:
        try:
            state.write(self.folder)
        except OSError as error:
            raise OutputError(f"cannot write in {self.folder}: {error.strerror}") from None


def _moment(seconds: float | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def job_data(job: Job) -> dict[str, Any]:
    """What job.json holds: nothing that changes, and no token."""
    return {
        "number": job.number,
        "kind": job.kind,
        "name": job.name,
        "out": str(job.out),
        "command": list(job.command),
        "created": job.created.isoformat(),
    }


def read_job(folder: Path) -> Job:
    """The job in a folder; with no command where job.json is missing or torn."""
    data: Mapping[str, Any] = read_json(folder / JOB_FILE) or {}
    command = data.get("command")
    words = command if isinstance(command, list) and all(isinstance(word, str) for word in command) else []
    number = data.get("number")
    return Job(
        id=folder.name,
        kind=next((kind for kind in get_args(Kind) if kind == data.get("kind")), "merge"),
        name=str(data.get("name") or ""),
        folder=folder,
        out=Path(str(data.get("out") or folder / "out")),
        command=tuple(words),
        created=_created(data.get("created"), folder.name),
        number=number if isinstance(number, int) else 0,
    )


def _created(text: object, name: str) -> datetime:
    """When it was made, by job.json or else by its id."""
    for spelled, reads in ((str(text), datetime.fromisoformat), (name[:15], _stamp)):
        try:
            found = reads(spelled)
        except ValueError:
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return datetime.fromtimestamp(0, UTC)


def _stamp(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
