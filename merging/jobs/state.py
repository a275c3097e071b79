"""How a job stands, as its worker wrote it down last, and whether that worker still lives.

A number of a process is given away again after its end, and clocks are set back. So a worker on this machine is known
by its number and by when it began; only of one on another machine must the heartbeat tell.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import merging.errors as errors
from merging.errors import MergingError, Problems
from merging.jobs.files import read_json, replace_json, without_tokens

STATE_FILE, CANCEL_FILE, JOB_FILE, RECIPE_FILE = "state.json", "cancel", "job.json", "recipe.yaml"
EVENTS_FILE, LOG_FILE, POINTS_FILE = "events.jsonl", "log.txt", "points.jsonl"

ENDED = ("done", "failed", "cancelled")
# Seconds in which a worker that was started must have spoken, and in which one far away must speak again.
STARTING_SECONDS, SILENT_SECONDS = 30.0, 60.0
# Longer texts would not fit the one block that a state file has even when the disk is full.
LONGEST_TEXT = 1000
MOST_PROBLEMS = 20
_UNKNOWN = "?"
_FIELDS = ("what", "where", "must_be", "fix")


@dataclass(frozen=True)
class State:
    """What state.json holds. Times are seconds since 1970; `began` tells the process from others of its number.

    `state` is queued (no worker yet), waiting (for its turn), running, done, failed or cancelled.
    """

    state: str = "queued"
    ticket: int = 0
    host: str = field(default_factory=platform.node)
    heartbeat: float = field(default_factory=time.time)
    pid: int | None = None
    began: str = ""
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    error: Mapping[str, Any] | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether a worker has it in hand, or is about to."""
        if self.state in ENDED:
            return False
        if self.pid is not None and self.host == platform.node():
            found = beginning(self.pid)
            if found is None or found != self.began:
                return False
            if found != _UNKNOWN:
                return True
        silence = abs(time.time() - self.heartbeat)
        return silence < (STARTING_SECONDS if self.pid is None else SILENT_SECONDS)

    def write(self, folder: Path) -> None:
        """Replace the state file. Raises OSError."""
        replace_json(folder / STATE_FILE, asdict(self))


_NUMBER = (int, float)
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "state": str,
    "ticket": int,
    "host": str,
    "heartbeat": _NUMBER,
    "pid": int,
    "began": str,
    "started": _NUMBER,
    "ended": _NUMBER,
    "exit_code": int,
    "error": dict,
    "progress": dict,
}


def read_state(folder: Path) -> State | None:
    """The state in a job's folder; None where the file is missing or torn. Fields of a wrong kind are left out."""
    data = read_json(folder / STATE_FILE)
    if data is None or not isinstance(data.get("state"), str):
        return None
    good: dict[str, Any] = {"heartbeat": 0.0}
    good |= {key: data[key] for key, kind in _KINDS.items() if isinstance(data.get(key), kind)}
    return State(**good)


def beginning(pid: int) -> str | None:
    """When a process began, by a name that no other of its number has; None where it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None if Path("/proc/self/stat").exists() else _asked_of_ps(pid)
    # The command's name in brackets may hold blanks and brackets itself.
    rest = stat.rpartition(")")[2].split()
    return None if rest[0] in "ZX" else f"{_boot()}:{rest[19]}"


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _asked_of_ps(pid: int) -> str | None:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    except OSError:
        return _asked_of_kernel(pid)
    stat, _, began = asked.stdout.strip().partition(" ")
    return began.strip() if began and not stat.startswith("Z") else None


def _asked_of_kernel(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return _UNKNOWN


def error_data(error: BaseException) -> dict[str, Any]:
    """An error as JSON data: its kind, what, where, what it must be, the fix; several as `problems`. No tokens."""
    if isinstance(error, Problems):
        return {"kind": "Problems", "problems": [error_data(each) for each in error.problems[:MOST_PROBLEMS]]}
    if isinstance(error, MergingError):
        texts = {name: getattr(error, name) for name in _FIELDS}
        return {"kind": type(error).__name__, **{name: text and _shortened(text) for name, text in texts.items()}}
    kind = type(error).__name__
    return {"kind": kind, "what": _shortened(f"merging failed with {kind}: {error}"), "fix": f"see {LOG_FILE}"}


def _shortened(text: str) -> str:
    text = without_tokens(text)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def error_from(data: Mapping[str, Any]) -> MergingError:
    """The error that `error_data` described; of unknown kinds a plain one."""
    listed = data.get("problems")
    problems = [error_from(each) for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    if problems:
        return Problems(problems)
    kind = getattr(errors, str(data.get("kind")), None)
    if not (isinstance(kind, type) and issubclass(kind, MergingError)) or kind is Problems:
        kind = MergingError
    what, *rest = (None if data.get(name) is None else str(data[name]) for name in _FIELDS)
    return kind(what or "the reason was not written down", **dict(zip(_FIELDS[1:], rest, strict=True)))
