"""Peak memory over model sizes, numbers of models, and a tensor larger than the memory allowed.

Each run is a fresh process; what counts is its peak beyond that of one that only imports torch and merging.
Families are made one at a time and deleted, so that the disk holds one of them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measure import circumstances, interpreter, measure
from benchmarks.recipes import RECIPES
from benchmarks.streaming import SPARE_BYTES, family, run_ours, save

SIZES = ("0.1B", "0.3B", "1.1B", "3B")
COUNTS = (2, 4, 8)
COUNTED = "0.3B"
FOLDED = "0.1B"
CURVES = ("linear", "ties", "ties_global")
# The tensor has 512 MiB in bf16, the engine is given an eighth of that.
SMALL_MEMORY = "64MiB"


def curve(folder: Path) -> Path:
    """Measure all three; the path of the results."""
    idle = interpreter(folder / "interpreter.log")
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        rows += _family_rows(folder, size, 2, [(recipe, ()) for recipe in CURVES], idle.peak_bytes)
    for count in COUNTS:
        rows += _family_rows(folder, COUNTED, count, [(recipe, ()) for recipe in CURVES], idle.peak_bytes)
        # A fold over the models: three copies of the largest matrix, however many models.
        rows += _family_rows(folder, FOLDED, count, [("opcm", ())], idle.peak_bytes)
    small = ("--memory", SMALL_MEMORY)
    cases = [("linear", ()), ("linear", small), ("ties", small), ("slerp", small)]
    rows += _family_rows(folder, "tall", 2, cases, idle.peak_bytes)
    return save({"benchmark": "memory", **circumstances(), "interpreter": asdict(idle), "rows": rows}, "memory")


def _family_rows(
    folder: Path, size: str, models: int, cases: Sequence[tuple[str, tuple[str, ...]]], idle_bytes: int
) -> list[dict[str, Any]]:
    kept = (folder / size).exists()
    if not kept and shutil.disk_usage(folder).free < SPARE_BYTES + _bytes_needed(size, models):
        print(f"{size} with {models} models does not fit the disk and is left out")
        return []
    places = family(folder, size, models)
    rows = [_row(folder, size, models, places, recipe, options, idle_bytes) for recipe, options in cases]
    if not kept:
        shutil.rmtree(folder / size)
    return rows


def _bytes_needed(size: str, models: int) -> int:
    """A family and one output; the names of the sizes are billions of entries of two bytes."""
    entries = 0.6e9 if size == "tall" else float(size.removesuffix("B")) * 1e9
    return int(2.1 * entries * (models + 2))


def _row(
    folder: Path, size: str, models: int, places: list[Path], recipe: str, options: tuple[str, ...], idle_bytes: int
) -> dict[str, Any]:
    file, out = folder / f"{recipe}.yaml", folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    file.write_text(RECIPES[recipe](places))
    cost = measure(run_ours(file, out, *options), folder / "merging.log")
    shutil.rmtree(out)
    os.sync()
    beyond = cost.peak_bytes - idle_bytes
    print(f"{size:6} {models} fine-tunes  {recipe:12} {' '.join(options):16} {beyond / 2**20:6.0f} MiB", flush=True)
    row = {"size": size, "models": models, "recipe": recipe, "options": list(options)}
    return {**row, "peak_beyond_interpreter_bytes": beyond, "cost": asdict(cost)}
