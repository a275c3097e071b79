"""How far a job is: counted by its worker from events, read by everybody else from its state."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from merging.engine.events import Event, Moved, PassStarted, RunStarted, Sealed, TensorDone, Warned


@dataclass(frozen=True)
class Progress:
    """How far a job is. Bytes are those of the present run; `tensors_done` counts those kept from an earlier one too.

    Of a sweep, `tensors` are points; of a push, files, and what is written is sent. `share` is in [0, 1]; `seconds` are
    those of work, without waiting; `seconds_left` is None while nothing is known, and after the end.
    """

    read_bytes: int = 0
    written_bytes: int = 0
    total_read_bytes: int = 0
    total_written_bytes: int = 0
    tensors_done: int = 0
    tensors: int = 0
    share: float = 0.0
    seconds: float = 0.0
    bytes_per_second: float = 0.0
    seconds_left: float | None = None
    pass_name: str = ""


class Tally:
    """What the events of a run add up to so far."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._counts = dict.fromkeys(("read", "written", "to_read", "to_write", "kept", "done", "tensors", "bad"), 0)
        self._kept_tensors = 0
        self._pass = ""
        self._sealed = False
        self._sent: dict[str, int] = {}

    def expect(self, pieces: int, kept: int) -> None:
        """Begin something that has no bytes to count: so many pieces, some of them there from an earlier run."""
        self._began = time.monotonic()
        self._counts |= {"tensors": pieces, "done": kept}
        self._kept_tensors = kept
        self._pass = "sweep"

    def expect_files(self, files: int, nbytes: int) -> None:
        """Begin sending so many files of so many bytes together."""
        self._began = time.monotonic()
        self._counts |= {"tensors": files, "to_write": nbytes}
        self._pass = "push"

    def send(self, path: str, done: int, size: int, held: bool) -> bool:
        """Count what has been sent of a file; whether that was the last of it. `held`: it was there already."""
        before = self._sent.get(path, 0)
        self._sent[path] = max(before, done)
        moved = self._sent[path] - before
        if held:
            self._counts["kept"] += moved
            self._counts["to_write"] -= moved
        else:
            self._counts["written"] += moved
        ended = done >= size > before
        self._counts["done"] += ended
        self._kept_tensors += ended and held
        return ended

    def finish_files(self) -> None:
        """All files are where they should be, those that went without notice too."""
        self._counts |= {"done": self._counts["tensors"], "written": self._counts["to_write"]}

    def add(self, event: Any) -> bool:
        """Count one event; whether it must be told by itself, however many there are."""
        counts = self._counts
        match event:
            case RunStarted():
                self._began = time.monotonic()
                counts |= {"to_read": event.read_bytes, "to_write": event.written_bytes, "kept": event.kept_bytes}
                counts |= {"tensors": event.tensors, "done": event.kept_tensors}
                self._kept_tensors = event.kept_tensors
            case PassStarted():
                self._pass = event.kind
            case Moved():
                counts["read"] += event.read_bytes
                counts["written"] += event.written_bytes
                return False
            case TensorDone():
                counts["done"] += 1
                counts["bad"] += event.non_finite
                return False
            case Sealed():
                self._sealed = True
            case Warned():
                pass
            case _ if isinstance(event, get_args(Event)):
                pass
            case _:
                counts["done"] += 1
        return True

    def data(self) -> dict[str, Any]:
        """The counts as JSON data."""
        seconds = 0.0 if self._began is None else time.monotonic() - self._began
        return {
            "read_bytes": self._counts["read"],
            "written_bytes": self._counts["written"],
            "total_read_bytes": self._counts["to_read"],
            "total_written_bytes": self._counts["to_write"],
            "kept_bytes": self._counts["kept"],
            "tensors_done": self._counts["done"],
            "kept_tensors": self._kept_tensors,
            "tensors": self._counts["tensors"],
            "non_finite": self._counts["bad"],
            "pass": self._pass,
            "seconds": round(seconds, 3),
        }


def progress_from(data: Mapping[str, Any], state: str) -> Progress:
    """What counts mean for a job in this state; counts that are missing or no numbers are 0."""

    def count(name: str) -> float:
        value = data.get(name, 0)
        return value if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else 0

    read, written, seconds = count("read_bytes"), count("written_bytes"), count("seconds")
    to_move, moved = count("total_read_bytes") + count("total_written_bytes"), read + written
    kept, new = count("kept_bytes"), count("total_written_bytes")
    left = count("tensors") - count("kept_tensors")
    before = kept / (kept + new) if kept else count("kept_tensors") / max(1, count("tensors"))
    # Bytes are told in large sums: of a small model, the tensors that are done say more.
    by_bytes, by_count = moved / max(1, to_move), (count("tensors_done") - count("kept_tensors")) / max(1, left)
    now = min(1.0, max(by_bytes, by_count))
    known = state == "running" and now > 0
    return Progress(
        read_bytes=int(read),
        written_bytes=int(written),
        total_read_bytes=int(count("total_read_bytes")),
        total_written_bytes=int(new),
        tensors_done=int(count("tensors_done")),
        tensors=int(count("tensors")),
        share=1.0 if state == "done" else max(0.0, min(1.0, before + (1 - before) * now)),
        seconds=float(seconds),
        bytes_per_second=moved / seconds if seconds else 0.0,
        seconds_left=max(0.0, seconds * (1 - now) / now) if known else None,
        pass_name=str(data.get("pass", "")),
    )
