"""One command in a fresh process: wall, user and system seconds, peak memory, bytes read and written.

The caller must not have imported torch: a child's peak counts that of the program it was started from.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
# What every process under test inherits: no network, no progress bars, one hash seed.
QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TQDM_DISABLE": "1", "PYTHONHASHSEED": "0"}
IMPORTS = "import torch, numpy, merging; [getattr(merging, name) for name in getattr(merging, '__all__', ())]"


@dataclass(frozen=True)
class Cost:
    """What a process took. `read_bytes` counts read calls, not memory maps; `written_bytes` counts write calls."""

    wall_seconds: float
    user_seconds: float
    system_seconds: float
    peak_bytes: int
    read_bytes: int
    written_bytes: int

    @property
    def cpu_seconds(self) -> float:
        """User and system time together."""
        return self.user_seconds + self.system_seconds


def measure(command: Sequence[str], log: Path, variables: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end; its output goes to `log`.

    Raises RuntimeError with the end of the log when it fails.
    """
    with log.open("wb") as out:
        began = time.perf_counter()
        child = subprocess.Popen(
            command, stdout=out, stderr=out, cwd=ROOT, env={**os.environ, **QUIET, **(variables or {})}
        )
        # The process stays a zombie until wait4, so that its I/O counters can still be read.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        wall = time.perf_counter() - began
        read, written = _bytes_moved(child.pid)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        tail = log.read_text(errors="replace")[-3000:]
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {child.returncode}:\n{tail}")
    return Cost(wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024, read, written)


def _bytes_moved(pid: int) -> tuple[int, int]:
    try:
        text = Path(f"/proc/{pid}/io").read_text()
    except OSError:
        return 0, 0
    counters = dict(line.split(": ") for line in text.splitlines())
    return int(counters["rchar"]), int(counters["wchar"])


def middle(costs: Sequence[Cost]) -> Cost:
    """The median of every figure, each on its own."""
    rows = [asdict(cost) for cost in costs]
    return Cost(**{name: type(rows[0][name])(median(row[name] for row in rows)) for name in rows[0]})


def interpreter(log: Path, repeats: int = 3) -> Cost:
    """A process that imports torch and every public name of merging, and does nothing."""
    return middle([measure([sys.executable, "-c", IMPORTS], log) for _ in range(repeats)])


def begin_peak() -> int | None:
    """Give freed memory back, begin the peak anew; the bytes now resident, None where the system does not tell."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def peak_beyond(resident: int | None) -> int | None:
    """How far the resident memory of this process rose since `begin_peak`."""
    return None if resident is None else max(0, _status("VmHWM") - resident)


def _status(name: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


def circumstances() -> dict[str, object]:
    """Where and when: machine, versions, commit; no paths and no names."""
    return {
        "date": now(),
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": len(_git("status", "--porcelain").splitlines()),
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": f"{platform.system()} {platform.release()}",
        },
        "python": platform.python_version(),
        "torch": version("torch"),
        "load_average": round(os.getloadavg()[0], 1),
    }


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _git(*words: str) -> str:
    found = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip()
