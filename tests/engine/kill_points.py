"""Kill a merge at random steps and resume it; run as a script, because each victim is a fork of this process.

A step is a write to a shard or any opening, renaming or removing of a file: all that can leave a half-done folder.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import torch

from merging.checkpoint.tensors import MemoryCheckpoint
from merging.engine.events import Event
from merging.engine.run import run
from merging.planning.plan import Plan
from tests.engine.plans import models, plan_of
from tests.engine.shelf import KeptShelf

SHAPES = {f"layers.{i}.w": (40, 50) for i in range(12)} | {"embed": (300, 40), "norm": (40,), "empty": (0, 3)}
STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


def plan_to_kill() -> Plan:
    """TIES over two fine-tunes, in several small shards, with a config."""
    made: list[MemoryCheckpoint] = models(SHAPES, 2, torch.bfloat16)
    plan = plan_of("ties", made, density=0.5)
    return Plan(plan.recipe, plan.models, plan.jobs, {"model_type": "none"}, None, shard_bytes=20_000)


def victim(events: Callable[[], Iterable[object]], deadly: int | None, counter: Path | None = None) -> None:
    """Go through the events of a run in a fork; die by SIGKILL at step `deadly`, or write down how many there were."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    steps = 0

    def count(event: str, _: object) -> None:
        nonlocal steps
        if event in STEPS:
            steps += 1
            if steps == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

    write = os.pwrite

    def counted(*arguments: object) -> int:
        count("open", None)
        return write(*arguments)  # type: ignore[arg-type]

    os.pwrite = counted  # type: ignore[assignment]
    sys.addaudithook(count)
    code = 1
    with contextlib.suppress(BaseException):
        for _ in events():
            pass
        code = 0
    if counter is not None:
        counter.write_text(str(steps))
    os._exit(code)


def merge_events(plan: Plan, out: Path, way: str) -> Iterator[Event]:
    """The merge; `way` is "local", or how the weights go to a shelf beside the output: "streamed" or "shards"."""
    shelf = KeptShelf(streams=way == "streamed", folder=shelf_of(out))
    return run(plan, out, workers=2, block=512, deliver=None if way == "local" else shelf)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; the ledger without its timings."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            text = path.read_bytes()
            if path.name == "merging-ledger.jsonl":
                text = b"\n".join(line.rpartition(b'"seconds"')[0] for line in text.splitlines())
            files[str(path.relative_to(folder))] = text
    return files


def shelf_of(out: Path) -> Path:
    """Where the shelf of an output folder is."""
    return out.with_name(out.name + "-shelf")


def outcome(out: Path, way: str) -> dict[str, bytes]:
    """What a merge left in its folder, and on its shelf."""
    held = contents(out)
    if way != "local":
        held |= {f"shown/{name}": content for name, content in contents(shelf_of(out) / "shown").items()}
    return held


def main(folder: Path, seed: int, count: int, way: str = "local") -> None:
    """Print one line per kill point whose resumed output is not byte for byte the uninterrupted one."""
    plan = plan_to_kill()
    victim(partial(merge_events, plan, folder / "whole", way), None, folder / "steps")
    expected = outcome(folder / "whole", way)
    assert "merging.json" in expected, "the uninterrupted merge did not end"
    steps = int((folder / "steps").read_text())
    choose = random.Random(seed)
    for attempt in range(count):
        out = folder / f"out{attempt}"
        point = choose.randrange(1, steps + 1)
        attempted = partial(merge_events, plan, out, way)
        victim(attempted, point)
        if choose.random() < 0.3:
            victim(attempted, choose.randrange(1, steps + 1))
        victim(attempted, None)
        found = outcome(out, way)
        if found != expected:
            sys.stdout.write(f"kill point {point} of {steps}: {sorted(found)} not {sorted(expected)}\n")
        for place in (out, shelf_of(out)):
            shutil.rmtree(place, ignore_errors=True)
    sys.stdout.write(f"checked {count} kill points of {steps} steps\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
