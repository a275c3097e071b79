"""Checkpoints, recipes and roots for jobs, and waiting for what real processes do."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from merging.jobs.job import Job
from merging.jobs.jobs import Jobs
from merging.jobs.state import read_state
from tests import tiny

# In the environment of every worker, as a user's would be; it must not be found in any file.
TOKEN = "hf_" + "PlantedSecret0123456789"
PATIENCE_SECONDS = 120.0


def until(condition: Callable[[], object], patience: float = PATIENCE_SECONDS) -> None:
    """Return once something has come true; fail when it does not."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        threading.Event().wait(0.01)


def over(job: Job) -> str:
    """The state in which a job ends."""
    until(lambda: job.state not in ("queued", "running"))
    return job.state


@contextmanager
def root_at(folder: Path) -> Iterator[Jobs]:
    """Jobs under a folder; workers that are left are killed."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_TOKEN", TOKEN)
        patched.setenv("MERGING_HOME", str(folder))
        patched.delenv("MERGING_CHECK_SHAPES", raising=False)
        jobs = Jobs()
        try:
            yield jobs
        finally:
            for job in jobs.all():
                kill(job)


def kill(job: Job) -> None:
    """SIGKILL to the worker, if there is one."""
    held = read_state(job.folder)
    if held is not None and held.alive and held.pid is not None and held.pid != os.getpid():
        with suppress(ProcessLookupError):
            os.kill(held.pid, signal.SIGKILL)


def many_tensors(folder: Path, count: int = 600) -> str:
    """A recipe over two checkpoints of so many tensors that a merge can be caught in its middle."""
    tensors = {f"layer.{i}.weight": torch.full((4,), float(i)) for i in range(count)}
    for name, change in (("base", 0.0), ("tuned", 1.0)):
        tiny.write(folder / name, {key: x + change for key, x in tensors.items()}, {})
    return recipe_of(folder / "base", folder / "tuned")


def break_models(folder: Path) -> None:
    """Make what `many_tensors` wrote unreadable: a merge of it ends at once, before torch is loaded."""
    (folder / "tuned" / "model.safetensors").write_bytes(b"nothing")


def recipe_of(base: Path | str, *tuned: Path | str, method: str = "task_arithmetic", extra: str = "") -> str:
    """A recipe's text."""
    models = "".join(f"- model: {path}\n  parameters: {{weight: 0.5}}\n" for path in tuned)
    return f"merge_method: {method}\nbase_model: {base}\nmodels:\n{models}{extra}"


def contents(folder: Path) -> dict[str, bytes]:
    """Weights and config of an output."""
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
