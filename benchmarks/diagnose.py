"""A whole diagnosis in fresh processes, beside plain reading of the same files.

    python -m benchmarks.diagnose --size 1.1B --models 3 --repeats 3 --keep

The floor reads every input file once, to nowhere. Before every timed run the inputs are read, so that the cache is
warm; then nothing runs for a while, as in benchmarks/streaming.py. `--places BASE MODEL…` takes models that are there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.measure import Cost, circumstances, interpreter, measure, middle
from benchmarks.streaming import SETTLE_SECONDS, family, run_floor, save


def commands(places: Sequence[Path], folder: Path) -> dict[str, list[str]]:
    """The floor and ours, by name."""
    files = [file for place in places for file in sorted(place.glob("*.safetensors"))]
    models = [str(place) for place in places[1:]]
    ours = [sys.executable, "-m", "merging", "diagnose", *models, "--base", str(places[0]), "--no-cache", "--quiet"]
    return {"floor": run_floor(files, folder / "nothing", 0), "diagnose": ours}


def entries(places: Sequence[Path]) -> int:
    """Entries of all task vectors together; two bytes each."""
    return sum(file.stat().st_size for place in places[1:] for file in place.glob("*.safetensors")) // 2


def compare(places: Sequence[Path], folder: Path, repeats: int) -> dict[str, Cost]:
    """Medians of interleaved runs."""
    runs: dict[str, list[Cost]] = {}
    for _ in range(repeats):
        for name, command in commands(places, folder).items():
            measure(commands(places, folder)["floor"], folder / "warm.log")
            time.sleep(SETTLE_SECONDS)
            cost = measure(command, folder / f"{name}.log")
            print(describe(name, cost))
            runs.setdefault(name, []).append(cost)
    return {name: middle(costs) for name, costs in runs.items()}


def describe(name: str, cost: Cost) -> str:
    """One run as a line."""
    return (
        f"{name:9} wall {cost.wall_seconds:7.2f} s   cpu {cost.cpu_seconds:7.2f} s"
        f" ({cost.user_seconds:.1f} + {cost.system_seconds:.1f})   peak {cost.peak_bytes / 2**20:6.0f} MiB"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1.1B", help="0.01B, 0.1B, 0.3B, 1.1B or 3B")
    parser.add_argument("--models", type=int, default=3, help="fine-tunes beside the base model")
    parser.add_argument("--places", type=Path, nargs="+", metavar="FOLDER", help="models in bfloat16, the base first")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "merging-benchmark")
    parser.add_argument("--keep", action="store_true", help="write a file under benchmarks/results")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    places = options.places or family(options.folder, options.size, options.models)
    found = compare([place.resolve() for place in places], options.folder.resolve(), options.repeats)
    idle = interpreter(options.folder / "interpreter.log", 1)
    ours, floor = found["diagnose"], found["floor"]
    each = (ours.cpu_seconds - idle.cpu_seconds) / entries(places) * 1e9
    print(
        f"{ours.wall_seconds / floor.wall_seconds:.2f} times plain reading, "
        f"{(ours.peak_bytes - idle.peak_bytes) / 2**20:.0f} MiB beyond the interpreter, "
        f"{each:.2f} ns of processor time per entry and model"
    )
    if options.keep:
        size = options.size if not options.places else "given"
        rows = [{"recipe": "diagnose", "tool": name, "median": asdict(cost)} for name, cost in found.items()]
        facts = {"benchmark": "diagnose", "size": size, "models": len(places) - 1, **circumstances()}
        save({**facts, "interpreter": asdict(idle), "rows": rows}, f"diagnose-{size}")


if __name__ == "__main__":
    main()
