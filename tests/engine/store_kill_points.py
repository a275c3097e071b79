"""Kill a store in the making at random steps and go on; run as a script, because each victim is a fork."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
from pathlib import Path

from merging.engine.compress import keep
from merging.engine.store_plan import StorePlan, plan_store
from tests import tiny
from tests.engine.kill_points import STEPS, contents
from tests.store.stores import recipe_of


def victim(store: StorePlan, out: Path, deadly: int | None, counter: Path | None = None) -> None:
    """Keep the tasks in a fork; die by SIGKILL at step `deadly`, or write down how many steps there were."""
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
        for _ in keep(store, out, workers=2, block=512):
            pass
        code = 0
    if counter is not None:
        counter.write_text(str(steps))
    os._exit(code)


def main(folder: Path, seed: int, count: int) -> None:
    """Print one line per kill point whose finished store is not byte for byte the uninterrupted one."""
    family = tiny.family(folder, "llama", models=2)
    store = plan_store(recipe_of(family, "emr"), out=folder / "out", shard_bytes=20_000)
    victim(store, folder / "whole", None, folder / "steps")
    expected = contents(folder / "whole")
    assert "store.json" in expected, "the uninterrupted run did not end"
    steps = int((folder / "steps").read_text())
    choose = random.Random(seed)
    for attempt in range(count):
        out = folder / f"out{attempt}"
        point = choose.randrange(1, steps + 1)
        victim(store, out, point)
        victim(store, out, None)
        found = contents(out)
        if found != expected:
            sys.stdout.write(f"kill point {point} of {steps}: {sorted(found)} not {sorted(expected)}\n")
        shutil.rmtree(out, ignore_errors=True)
    sys.stdout.write(f"checked {count} kill points of {steps} steps\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
