"""Kill a merge at random steps and resume it; run as a script, because each victim is a fork of this process.

A step is a write to a shard or any opening, renaming or removing of a file: all that can leave a half-done folder.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
from pathlib import Path

import torch

from merging.checkpoint.tensors import MemoryCheckpoint
from merging.engine.run import run
from merging.planning.plan import Plan
from tests.engine.plans import models, plan_of

SHAPES = {f"layers.{i}.w": (40, 50) for i in range(12)} | {"embed": (300, 40), "norm": (40,), "empty": (0, 3)}
STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


def plan_to_kill() -> Plan:
    """TIES over two fine-tunes, in several small shards, with a config."""
    made: list[MemoryCheckpoint] = models(SHAPES, 2, torch.bfloat16)
    plan = plan_of("ties", made, density=0.5)
    return Plan(plan.recipe, plan.models, plan.jobs, {"model_type": "none"}, None, shard_bytes=20_000)


def victim(plan: Plan, out: Path, deadly: int | None, counter: Path | None = None) -> None:
    """Run the merge in a fork; die by SIGKILL at step `deadly`, or write down how many steps there were."""
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
        for _ in run(plan, out, workers=2, block=512):
            pass
        code = 0
    if counter is not None:
        counter.write_text(str(steps))
    os._exit(code)


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


def main(folder: Path, seed: int, count: int) -> None:
    """Print one line per kill point whose resumed output is not byte for byte the uninterrupted one."""
    plan = plan_to_kill()
    victim(plan, folder / "whole", None, folder / "steps")
    expected = contents(folder / "whole")
    assert "merging.json" in expected, "the uninterrupted merge did not end"
    steps = int((folder / "steps").read_text())
    choose = random.Random(seed)
    for attempt in range(count):
        out = folder / f"out{attempt}"
        point = choose.randrange(1, steps + 1)
        victim(plan, out, point)
        if choose.random() < 0.3:
            victim(plan, out, choose.randrange(1, steps + 1))
        victim(plan, out, None)
        if contents(out) != expected:
            sys.stdout.write(f"kill point {point} of {steps}: {sorted(contents(out))} not {sorted(expected)}\n")
        for path in sorted(out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    sys.stdout.write(f"checked {count} kill points of {steps} steps\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
