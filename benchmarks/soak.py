"""Whether the workbench's server stays as large as it is while people use it for long.

    python -m benchmarks.soak --minutes 30 --keep

`merging ui` is started as a person starts it, behind its door, and a real Chromium goes round and round its pages (see
benchmarks/visits.py); every round comes as a new session, and leaves. Meanwhile the memory of the server is read every
few seconds. Merges run in processes of their own, which are not counted. The first minutes warm it up: libraries are
loaded, caches filled. The slope is the median of those between all pairs of later readings (Theil and Sen), which a few
readings in the midst of a merge do not move.
"""

from __future__ import annotations

import argparse
import secrets
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import circumstances
from benchmarks.streaming import save
from benchmarks.visits import Visitor

MIB = 1 << 20
EVERY_SECONDS = 5.0
# Imports, first merges, caches of everything that a round touches; and as long again as Streamlit keeps ended sessions.
WARM_UP_MINUTES = 5.0
# Readings at the beginning and at the end whose medians are compared.
WINDOW_MINUTES = 3.0
_FIELDS = {"Rss": "rss", "Pss": "pss", "Anonymous": "anonymous"}


@dataclass(frozen=True)
class Sample:
    """What the server held at a moment, in bytes: resident, its share of what it shares, its own; and its threads."""

    seconds: float
    rss: int
    pss: int
    anonymous: int
    threads: int
    rounds: int
    sessions: int


def memory_of(rollup: str) -> dict[str, int]:
    """Bytes by kind of memory, from the text of /proc/PID/smaps_rollup.

    >>> memory_of("55d0-7ffe ---p 00000000 00:00 0 [rollup]\\nRss: 8 kB\\nPss: 4 kB\\nPss_Anon: 1 kB\\nAnonymous: 2 kB")
    {'rss': 8192, 'pss': 4096, 'anonymous': 2048}
    """
    # The first line names the range of addresses.
    lines = (line.split(":", 1) for line in rollup.splitlines()[1:])
    found = {_FIELDS[name]: 1024 * int(value.split()[0]) for name, value in lines if name in _FIELDS}
    if len(found) < len(_FIELDS):
        raise ValueError(f"there is no {', '.join(_FIELDS.keys() - {name.title() for name in found})} in {rollup!r}")
    return found


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Median of the slopes between all pairs of points (Theil 1950, Sen 1968); 0 where there are fewer than two."""
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2) if x1 != x2]
    return median(slopes) if slopes else 0.0


def summary(samples: Sequence[Sample], warm_up_minutes: float) -> dict[str, Any]:
    """What the readings after the warm-up tell, in MiB: slope per minute, medians of both ends, peak; by kind.

    Raises ValueError where nothing was read after the warm-up.
    """
    later = [sample for sample in samples if sample.seconds >= 60 * warm_up_minutes]
    if not later:
        raise ValueError(f"nothing was read after the first {warm_up_minutes:g} minutes")
    kinds = {kind: _told(later, kind) for kind in _FIELDS.values()}
    return {
        "warm_up_minutes": warm_up_minutes,
        "minutes": round((later[-1].seconds - later[0].seconds) / 60, 2),
        "rounds": later[-1].rounds - later[0].rounds,
        "sessions": later[-1].sessions - later[0].sessions,
        "threads": [later[0].threads, max(sample.threads for sample in later), later[-1].threads],
        **kinds,
    }


def _told(samples: Sequence[Sample], kind: str) -> dict[str, float]:
    points = [(sample.seconds / 60, getattr(sample, kind) / MIB) for sample in samples]
    # Of a short run no more than the outer thirds.
    window = min(WINDOW_MINUTES, (points[-1][0] - points[0][0]) / 3)
    told = {
        "slope_mib_per_minute": slope(points),
        "start_mib": median(y for x, y in points if x <= points[0][0] + window),
        "end_mib": median(y for x, y in points if x >= points[-1][0] - window),
        "peak_mib": max(y for _, y in points),
    }
    return {name: round(value, 3) for name, value in told.items()}


@dataclass
class Watch:
    """Reads the memory of a program every few seconds, in a thread of its own, until it is stopped."""

    pid: int
    visitor: Visitor
    samples: list[Sample] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin to read."""
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read no more."""
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            place = Path(f"/proc/{self.pid}")
            rollup = memory_of((place / "smaps_rollup").read_text())
            threads = len(list((place / "task").iterdir()))
            rounds, sessions = self.visitor.rounds, self.visitor.sessions
            sample = Sample(
                round(time.monotonic() - self._began, 1), **rollup, threads=threads, rounds=rounds, sessions=sessions
            )
            self.samples.append(sample)
            if len(self.samples) % 12 == 0:
                print(_line(sample), flush=True)


def _line(sample: Sample) -> str:
    return (
        f"{sample.seconds / 60:6.1f} min   round {sample.rounds:4}   session {sample.sessions:4}   "
        f"resident {sample.rss / MIB:7.1f} MiB   its own {sample.anonymous / MIB:7.1f} MiB   threads {sample.threads:3}"
    )


def server_of(pid: int) -> int:
    """The server that `merging ui` runs in a process below its own."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def soak(minutes: float, folder: Path) -> tuple[list[Sample], Visitor]:
    """Use a workbench for so many minutes; what was read meanwhile, and what the visitor did."""
    from playwright.sync_api import sync_playwright

    from tests.ui.conftest import started, stop

    token = secrets.token_urlsafe(12)
    with sync_playwright() as playwright:
        bench = started(folder, "--expose", token=token)
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        visitor = Visitor(browser, bench.address, token, bench.folder)
        watch = Watch(server_of(bench.server.pid), visitor)
        try:
            watch.start()
            end = time.monotonic() + 60 * minutes
            while time.monotonic() < end:
                visitor.visit()
        finally:
            watch.stop()
            browser.close()
            stop(bench)
    return watch.samples, visitor


def report(told: Mapping[str, Any]) -> str:
    """The summary as lines."""
    over = f"{told['minutes']:.1f} minutes, {told['rounds']} rounds, {told['sessions']} sessions"
    threads = "threads {}, at most {}, at last {}".format(*told["threads"])
    lines = [f"after {told['warm_up_minutes']:g} minutes of warm-up: {over}, {threads}"]
    for kind in _FIELDS.values():
        each = told[kind]
        lines.append(
            f"{kind:10} {each['slope_mib_per_minute']:+7.3f} MiB a minute   from {each['start_mib']:7.1f}"
            f" to {each['end_mib']:7.1f}   peak {each['peak_mib']:7.1f} MiB"
        )
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--warm-up", type=float, default=WARM_UP_MINUTES, metavar="MINUTES")
    parser.add_argument("--keep", action="store_true", help="write a result file")
    options = parser.parse_args()
    if options.minutes <= options.warm_up:
        parser.error(f"--minutes must be more than the {options.warm_up:g} of the warm-up")
    with tempfile.TemporaryDirectory(prefix="merging-soak-") as folder:
        samples, visitor = soak(options.minutes, Path(folder))
    told = summary(samples, options.warm_up)
    print(report(told))
    if options.keep:
        made = {name: getattr(visitor, name) for name in ("rounds", "sessions", "jobs", "broken_off")}
        rows = [asdict(sample) for sample in samples]
        save({"benchmark": "soak", **circumstances(), "made": made, "summary": told, "rows": rows}, "soak")


if __name__ == "__main__":
    main()
