"""Events of a run on the screen: a bar on a terminal, plain lines elsewhere, JSON lines for programs.

Progress goes to standard error, so that standard output stays free for results.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from merging.cli.text import show_warning
from merging.engine.events import Delivered, Delivering, Moved, PassStarted, RunStarted, Sealed, TensorDone, Warned
from merging.planning.explain import readable

if TYPE_CHECKING:
    from rich.progress import Progress

# Seconds between two plain lines.
PACE = 5.0
VERBS = {"measure": "measuring", "merge": "merging", "finish": "finishing"}


@dataclasses.dataclass
class Seen:
    """What the events so far add up to."""

    tensors: int = 0
    kept_tensors: int = 0
    all_bytes: int = 0
    moved_bytes: int = 0
    output_bytes: int = 0
    non_finite: int = 0
    verb: str = "reading"
    seconds: float = 0.0
    files: tuple[str, ...] = ()
    place: str = ""
    sent_bytes: int = 0
    published: Mapping[str, Any] | None = None
    last: object = None

    def add(self, event: object) -> None:
        """Count one event."""
        self.last = event
        match event:
            case RunStarted():
                self.tensors, self.kept_tensors = event.tensors, event.kept_tensors
                # A run whose stream broke begins a second time.
                self.all_bytes = self.moved_bytes + event.read_bytes + event.written_bytes
                self.output_bytes = event.kept_bytes
            case PassStarted():
                self.verb = VERBS.get(event.kind, event.kind)
            case Moved():
                self.moved_bytes += event.read_bytes + event.written_bytes
            case TensorDone():
                self.non_finite += event.non_finite
                self.output_bytes += event.nbytes
            case Delivering():
                self.place, self.sent_bytes = event.place, event.kept_bytes
            case Delivered():
                self.sent_bytes += event.nbytes
            case Sealed():
                self.seconds, self.files = event.seconds, tuple(path.name for path in event.files)
                self.published = event.published


def watch(events: Iterable[object], *, quiet: bool = False, as_json: bool = False) -> Seen:
    """Draw events until they end; returns what they add up to. Warnings are shown unless `quiet`."""
    seen = Seen()
    if as_json:
        for event in events:
            seen.add(event)
            click.echo(event_json(event))
        return seen
    with _drawing(quiet) as draw:
        for event in events:
            seen.add(event)
            if not quiet:
                _tell(event)
            draw(seen)
    return seen


def _tell(event: object) -> None:
    """What deserves a line of its own."""
    match event:
        case Warned():
            show_warning(event.text)
        case Delivering():
            how = {"streamed": "as they are made, with nothing on disk", "shards": "shard by shard"}[event.way]
            kept = f"; {readable(event.kept_bytes)} are there" if event.kept_bytes else ""
            click.echo(f"{readable(event.nbytes)} of weights go to {event.place} {how}{kept}", err=True)
        case Delivered():
            click.echo(f"{event.path}: {readable(event.nbytes)} sent", err=True)


def event_json(event: Any) -> str:
    """An event as one line of JSON: its kind and its fields."""
    return json.dumps({"event": type(event).__name__, **dataclasses.asdict(event)}, default=str)


def _drawing(quiet: bool) -> AbstractContextManager[Callable[[Seen], None]]:
    if quiet:
        return nullcontext(lambda _: None)
    return _Bar() if sys.stderr.isatty() else nullcontext(_Lines().draw)


class _Lines:
    """A line now and then, for logs."""

    def __init__(self) -> None:
        self._began = self._spoken = time.monotonic()

    def draw(self, seen: Seen) -> None:
        now = time.monotonic()
        if now - self._spoken < PACE or not seen.moved_bytes:
            return
        self._spoken = now
        rate = seen.moved_bytes / (now - self._began)
        left = max(0, seen.all_bytes - seen.moved_bytes) / rate
        click.echo(
            f"{seen.verb}: {readable(seen.moved_bytes)} of {readable(seen.all_bytes)} moved, "
            f"{readable(rate)}/s, {left:.0f} s left",
            err=True,
        )


class _Bar(AbstractContextManager[Callable[[Seen], None]]):
    """A bar with bytes, rate and time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._progress: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("reading", total=None)

    def __enter__(self) -> Callable[[Seen], None]:
        self._progress.start()
        return self._draw

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _draw(self, seen: Seen) -> None:
        self._progress.update(
            self._task, description=seen.verb, completed=seen.moved_bytes, total=seen.all_bytes or None
        )


def summary(seen: Seen, out: object) -> str:
    """What a finished run made, in a line or two."""
    rate = seen.moved_bytes / seen.seconds if seen.seconds else 0.0
    count = len(seen.files)
    files = f"in {count} files" if count != 1 else "in 1 file"
    if seen.published and not count:
        files = f"at {seen.place}"
    kept = f", {seen.kept_tensors} of them kept from an earlier run" if seen.kept_tensors else ""
    lines = [
        f"{out}: {seen.tensors} tensors{kept}, {readable(seen.output_bytes)} {files}, "
        f"{seen.seconds:.1f} s ({readable(rate)}/s read and written)"
    ]
    if seen.non_finite:
        lines.append(f"{seen.non_finite} entries are not finite; merging-ledger.jsonl says in which tensors")
    if seen.published:
        lines.append(str(seen.published.get("pull_request") or seen.published["url"]))
    return "\n".join(lines)
