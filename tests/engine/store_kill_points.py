"""Kill a store in the making at random steps and go on; run as a script, because each victim is a fork."""

from __future__ import annotations

import random
import shutil
import sys
from functools import partial
from pathlib import Path

from merging.engine.compress import keep
from merging.engine.store_plan import plan_store
from tests import tiny
from tests.engine.kill_points import contents, victim
from tests.store.stores import recipe_of


def main(folder: Path, seed: int, count: int) -> None:
    """Print one line per kill point whose finished store is not byte for byte the uninterrupted one."""
    family = tiny.family(folder, "llama", models=2)
    store = plan_store(recipe_of(family, "emr"), out=folder / "out", shard_bytes=20_000)
    attempt_at = partial(keep, store, workers=2, block=512)
    victim(partial(attempt_at, folder / "whole"), None, folder / "steps")
    expected = contents(folder / "whole")
    assert "store.json" in expected, "the uninterrupted run did not end"
    steps = int((folder / "steps").read_text())
    choose = random.Random(seed)
    for attempt in range(count):
        out = folder / f"out{attempt}"
        point = choose.randrange(1, steps + 1)
        victim(partial(attempt_at, out), point)
        victim(partial(attempt_at, out), None)
        found = contents(out)
        if found != expected:
            sys.stdout.write(f"kill point {point} of {steps}: {sorted(found)} not {sorted(expected)}\n")
        shutil.rmtree(out, ignore_errors=True)
    sys.stdout.write(f"checked {count} kill points of {steps} steps\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
