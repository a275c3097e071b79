"""Kill a store in the making at random steps and go on; run as a script, because each victim is a fork."""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
from functools import partial
from pathlib import Path

from merging.engine.compress import compress, keep
from merging.engine.store_folder import verify_store
from merging.engine.store_plan import plan_store
from merging.errors import MergingError
from merging.store.record import is_store
from merging.store.tasks import TaskStore
from tests import tiny
from tests.engine.kill_points import contents, victim
from tests.store.stores import recipe_of


def main(folder: Path, seed: int, count: int, overwrite: bool = False) -> None:
    """Print one line per kill point whose finished store is not byte for byte the uninterrupted one.

    With `overwrite` another store of the same tensors lies there before; what a killed run leaves must be that one,
    whole, or no store.
    """
    family = tiny.family(folder, "llama", models=2)
    store = plan_store(recipe_of(family, "emr"), out=folder / "out", shard_bytes=20_000)
    attempt_at = partial(keep, store, workers=2, block=512, overwrite=overwrite)
    if overwrite:
        compress(recipe_of(family, "tall_masks"), folder / "earlier", shard_bytes=20_000)
        shutil.copytree(folder / "earlier", folder / "whole")
    victim(partial(attempt_at, folder / "whole"), None, folder / "steps")
    expected = contents(folder / "whole")
    assert "store.json" in expected, "the uninterrupted run did not end"
    steps = int((folder / "steps").read_text())
    choose = random.Random(seed)
    for attempt in range(count):
        out = folder / f"out{attempt}"
        point = choose.randrange(1, steps + 1)
        if overwrite:
            shutil.copytree(folder / "earlier", out)
        victim(partial(attempt_at, out), point)
        if overwrite and is_store(out) and not (_is_sound(out) or _lacks_files(out)):
            sys.stdout.write(f"kill point {point} of {steps}: left a store of two halves\n")
        victim(partial(attempt_at, out), None)
        found = contents(out)
        if found != expected:
            sys.stdout.write(f"kill point {point} of {steps}: {sorted(found)} not {sorted(expected)}\n")
        shutil.rmtree(out, ignore_errors=True)
    sys.stdout.write(f"checked {count} kill points of {steps} steps\n")


def _is_sound(folder: Path) -> bool:
    """Whether every tensor of a store is what its ledger says."""
    with contextlib.suppress(MergingError):
        return verify_store(folder) > 0
    return False


def _lacks_files(folder: Path) -> bool:
    """Whether a store says itself that it is not whole: its files are removed before its record."""
    try:
        TaskStore(folder).held()
    except MergingError as error:
        return "shards are missing" in str(error)
    return False


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), "overwrite" in sys.argv)
