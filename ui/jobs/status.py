"""How a job stands, in words: its state, how far it is, how long it took."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

from merging import Job, readable
from ui.compose.pace import about


class Look(NamedTuple):
    """How a state is shown: a sign where only text fits, an icon and a colour elsewhere; the word is always there."""

    sign: str
    icon: str
    colour: str
    paint: str


LOOKS: Final = {
    "queued": Look("○", ":material/schedule:", "gray", "#8C8C8C"),
    "running": Look("▶", ":material/play_circle:", "blue", "#0072B2"),
    "done": Look("✓", ":material/check_circle:", "green", "#009E73"),
    "failed": Look("✕", ":material/error:", "red", "#D55E00"),
    "cancelled": Look("■", ":material/stop_circle:", "orange", "#B87700"),
    "lost": Look("?", ":material/help:", "violet", "#A5528C"),
}
ACTIVE = ("queued", "running")
RESUMABLE = ("failed", "cancelled", "lost")
PASSES = {
    "measure": "measuring",
    "merge": "merging",
    "finish": "finishing",
    "sweep": "merging and scoring",
    "push": "sending",
}
_UNITS = ("B", "KB", "MB", "GB", "TB")


def title(job: Job) -> str:
    """What a job is called: its name, or where it writes."""
    return job.name or job.repository or (job.out.name if job.kind == "merge" else "") or job.id


def moment(time: datetime | None) -> str:
    """A time as a person on this machine reads it."""
    return f"{time.astimezone():%-d %b, %H:%M:%S}" if time else "–"


def spelled(state: str) -> str:
    """A state as one word with its sign."""
    return f"{LOOKS[state].sign} {state}"


def seconds_of(job: Job, now: datetime | None = None) -> float | None:
    """Seconds since its turn came, up to its end; None for one that never ran."""
    if job.state == "running" and job.started:
        return max(0.0, ((now or datetime.now(UTC)) - job.started).total_seconds())
    if job.started and job.ended:
        return max(0.0, (job.ended - job.started).total_seconds())
    return job.progress.seconds or None


def lasted(seconds: float | None) -> str:
    """A duration in its two largest units.

    >>> lasted(0.42), lasted(12.3), lasted(200), lasted(7_500), lasted(None)
    ('0.4 s', '12 s', '3 min 20 s', '2 h 5 min', '–')
    """
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def of_bytes(done: float, total: float) -> str:
    """Bytes of so many, in one unit where that can be read.

    >>> of_bytes(1_230_000_000, 2_203_000_000), of_bytes(8_400_000, 2_203_000_000)
    ('1.23 of 2.2 GB', '8.4 MB of 2.2 GB')
    """
    unit = readable(total).split()[1]
    here = done / 1000 ** _UNITS.index(unit)
    return f"{here:.3g} of {readable(total)}" if here >= 0.1 or not done else f"{readable(done)} of {readable(total)}"


def count(done: int, total: int, kind: str) -> str:
    """Pieces that are done, of so many."""
    pieces = {"sweep": "points", "push": "files"}.get(kind, "tensors")
    return f"{done:,} of {total:,} {pieces}"


def progress_says(job: Job) -> str:
    """How far a job is, in one line."""
    state, progress = job.state, job.progress
    if state == "queued":
        place = job.position or 1
        return "starting" if place == 1 and not _waits(job) else f"number {place} in the line; one job runs at a time"
    done = count(progress.tensors_done, progress.tensors, job.kind) if progress.tensors else ""
    wrote = "sent" if job.kind == "push" else "written"
    if state == "running":
        moved = ""
        if progress.written_bytes:
            moved = f"{of_bytes(progress.written_bytes, progress.total_written_bytes)} {wrote}"
        elif progress.read_bytes:
            moved = f"{of_bytes(progress.read_bytes, progress.total_read_bytes)} read"
        pace = f"{readable(progress.bytes_per_second)}/s" if progress.bytes_per_second else ""
        left = f"{about(progress.seconds_left)} left" if progress.seconds_left is not None else ""
        return " · ".join(filter(None, (PASSES.get(progress.pass_name, "starting"), done, moved, pace, left)))
    if state == "done":
        moved = f"{readable(progress.total_written_bytes)} {wrote}" if progress.total_written_bytes else ""
        both = wrote if job.kind == "push" else "read and written"
        pace = f"{readable(progress.bytes_per_second)}/s {both}" if progress.bytes_per_second else ""
        return " · ".join(filter(None, (done, moved, f"took {lasted(seconds_of(job))}", pace)))
    if job.kind == "push":
        return "Stopped before the commit was made; Resume sends what the Hub has not got yet"
    kept = (
        f"Stopped at {100 * progress.share:.0f} %, after {done}"
        if progress.tensors
        else "Stopped before its first tensor"
    )
    return f"{kept}; Resume goes on from there, to the same bytes" if job.kind == "merge" else f"{kept} are kept"


def _waits(job: Job) -> bool:
    """Whether its worker has said that another job is before it."""
    return any(event.get("event") == "Waiting" for event in job.events(5))
