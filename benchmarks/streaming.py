"""Whole merges in fresh processes, against the I/O floor and against mergekit, interleaved, medians of several runs.

    python -m benchmarks.streaming --size 1.1B --models 3 --repeats 3 --mergekit .venv-oracle/bin/python
    python -m benchmarks.streaming --memory-curve      peak memory over sizes and numbers of models
    python -m benchmarks.streaming --table             the README's table, from the newest results
    python -m benchmarks.streaming --clean             delete the generated families

The floor of a recipe reads its input files once and copies one output's worth of bytes, without and with fsync (ours
waits for the disk, mergekit does not). mergekit runs at its fairest setting on a processor. Before every timed run its
inputs are read, so that the cache is warm. Then nothing runs for SETTLE_SECONDS: a virtual machine hands freed memory
back to its host, and the next to touch it pays seconds per GiB; after the pause every tool, and the floor, pays alike.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Cost, circumstances, interpreter, measure, middle, now
from benchmarks.recipes import OURS_ALONE, RECIPES, SPECTRAL, inputs_of

RESULTS = Path(__file__).parent / "results"
TOOLS = ("floor", "floor_fsync", "merging", "mergekit")
USUAL = [name for name in RECIPES if name not in SPECTRAL]
SPARE_BYTES = 5 << 30
SETTLE_SECONDS = 5.0


def family(folder: Path, size: str, models: int) -> list[Path]:
    """Make or reuse a family, in a process of its own so that this one stays small; base model first."""
    command = [sys.executable, "-m", "benchmarks.generate", str(folder), "--size", size, "--models", str(models)]
    made = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [Path(line) for line in made.stdout.split("\n") if line]


def run_ours(recipe: Path, out: Path, *options: str) -> list[str]:
    """The command line of `merging run`."""
    return [sys.executable, "-m", "merging", "run", str(recipe), str(out), *options]


def run_mergekit(python: str, recipe: Path, out: Path) -> list[str]:
    """mergekit's command line with the options that make it fastest on a processor."""
    fairest = ["-j", "1", "--async-write", "--out-shard-size", "500M", "--quiet"]
    return [python, "-m", "mergekit.scripts.run_yaml", str(recipe), str(out), *fairest]


def run_floor(sources: Sequence[Path], out: Path, write_bytes: int, *options: str) -> list[str]:
    """The command line of the floor for these inputs."""
    files = [str(source) for source in sources]
    return [sys.executable, "-m", "benchmarks.floor", str(out), *files, "--write", str(write_bytes), *options]


class Bench:
    """One family, one folder for recipes and outputs, and the runs made so far."""

    def __init__(self, folder: Path, size: str, models: int, mergekit: str | None):
        self.folder, self.size, self.models, self.mergekit = folder, size, models, mergekit
        self.places = family(folder, size, models)
        self.model_bytes = sum(file.stat().st_size for file in self.places[0].glob("*.safetensors"))
        if shutil.disk_usage(folder).free < self.model_bytes + SPARE_BYTES:
            raise SystemExit(f"{folder} has no room for an output of {self.model_bytes:,} bytes")
        self.runs: dict[tuple[str, str], list[Cost]] = {}

    def take(self, recipe: str, tool: str) -> Cost:
        """One run of one tool on one recipe, remembered."""
        text = RECIPES[recipe](self.places)
        file = self.folder / f"{recipe}.yaml"
        file.write_text(text)
        out = self.folder / "out"
        inputs = inputs_of(text, self.places)
        match tool:
            case "floor":
                command = run_floor(inputs, out, self.model_bytes)
            case "floor_fsync":
                command = run_floor(inputs, out, self.model_bytes, "--fsync")
            case "merging":
                command = run_ours(file, out)
            case _:
                command = run_mergekit(str(self.mergekit), file, out)
        self._run("warm", run_floor(inputs, out, 0))
        time.sleep(SETTLE_SECONDS)
        cost = self._run(tool, command)
        self.runs.setdefault((recipe, tool), []).append(cost)
        return cost

    def _run(self, tool: str, command: Sequence[str]) -> Cost:
        self._remove()
        cost = measure(command, self.folder / f"{tool}.log")
        self._remove()
        # What this run left to be written must not be paid for by the next.
        os.sync()
        return cost

    def _remove(self) -> None:
        out = self.folder / "out"
        if out.is_dir():
            shutil.rmtree(out)
        out.unlink(missing_ok=True)

    def rows(self) -> list[dict[str, Any]]:
        """One row per recipe and tool, in the order of the recipes."""
        rows = []
        for (recipe, tool), costs in self.runs.items():
            inputs = inputs_of(RECIPES[recipe](self.places), self.places)
            rows.append(
                {
                    "recipe": recipe,
                    "tool": tool,
                    "input_bytes": sum(file.stat().st_size for file in inputs),
                    "output_bytes": self.model_bytes,
                    "date": now(),
                    "median": asdict(middle(costs)),
                    "runs": [asdict(cost) for cost in costs],
                }
            )
        return rows


def compare(options: argparse.Namespace) -> Path:
    """Time every recipe with every tool, round by round; the path of the results."""
    bench = Bench(options.folder, options.size, options.models, options.mergekit)
    idle = interpreter(options.folder / "interpreter.log")
    tools = [tool for tool in TOOLS if tool in options.tools and (tool != "mergekit" or options.mergekit)]
    for repeat, recipe, tool in product(range(options.repeats), options.recipes, tools):
        alone = recipe in OURS_ALONE or repeat >= options.mergekit_repeats
        if tool != "mergekit" or not alone:
            print(describe(recipe, tool, bench.take(recipe, tool), idle), flush=True)
    result = {
        "benchmark": "streaming",
        "size": options.size,
        "models": options.models,
        **circumstances(),
        "interpreter": asdict(idle),
        "rows": bench.rows(),
    }
    if options.peer_from:
        result["rows"] += peer_rows(json.loads(options.peer_from.read_text()), result, options.recipes)
    return save(result, f"streaming-{options.size}")


def peer_rows(earlier: dict[str, Any], result: dict[str, Any], recipes: Sequence[str]) -> list[dict[str, Any]]:
    """mergekit's rows of an earlier result of the same family on the same machine; making them takes long.

    Raises SystemExit where the two cannot stand side by side.
    """
    for what in ("size", "models", "machine"):
        if earlier[what] != result[what]:
            raise SystemExit(f"mergekit's rows are of another {what}: {earlier[what]}, not {result[what]}")
    rows = [row for row in earlier["rows"] if row["tool"] == "mergekit" and row["recipe"] in recipes]
    return [{"load_average": earlier["load_average"], **row} for row in rows]


def describe(recipe: str, tool: str, cost: Cost, idle: Cost) -> str:
    """One run as a line."""
    beyond = (cost.peak_bytes - idle.peak_bytes) / 2**20 if tool == "merging" else cost.peak_bytes / 2**20
    return (
        f"{recipe:17} {tool:12} wall {cost.wall_seconds:7.2f} s   cpu {cost.cpu_seconds:7.2f} s"
        f" ({cost.user_seconds:.1f} + {cost.system_seconds:.1f})   peak {beyond:7.0f} MiB"
        f"   read {cost.read_bytes / 1e9:6.2f} GB   written {cost.written_bytes / 1e9:5.2f} GB"
    )


def save(result: dict[str, Any], name: str) -> Path:
    """Write a result file named after what it measured and when."""
    RESULTS.mkdir(exist_ok=True)
    stamp = result["date"].replace(":", "").replace("+0000", "")
    path = RESULTS / f"{name}-{stamp}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path.relative_to(ROOT))
    return path


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1.1B", help="0.01B, 0.1B, 0.3B, 1.1B or 3B")
    parser.add_argument("--models", type=int, default=3, help="fine-tunes beside the base model")
    parser.add_argument(
        "--recipes", type=lambda text: text.split(","), default=[name for name in RECIPES if name not in SPECTRAL]
    )
    parser.add_argument("--tools", type=lambda text: text.split(","), default=list(TOOLS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mergekit", metavar="PYTHON", help="a python that has mergekit")
    parser.add_argument("--mergekit-repeats", type=int, default=1, help="it is slow; its runs vary little")
    parser.add_argument("--peer-from", type=Path, metavar="RESULT", help="take mergekit's rows from an earlier result")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "merging-benchmark")
    parser.add_argument("--memory-curve", action="store_true", help="peak memory over sizes and numbers of models")
    parser.add_argument("--table", action="store_true", help="only write the README's table, from the newest results")
    parser.add_argument("--clean", action="store_true", help="only delete the generated families")
    return parser


def main() -> None:
    """The command line."""
    parser = _arguments()
    options = parser.parse_args()
    if unknown := [recipe for recipe in options.recipes if recipe not in RECIPES]:
        parser.error(f"no recipe is called {unknown[0]!r}; there are {', '.join(RECIPES)}")
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.clean:
        shutil.rmtree(options.folder)
    elif options.table:
        from benchmarks.tables import write_tables

        write_tables()
    elif options.memory_curve:
        from benchmarks.memory import curve

        curve(options.folder)
    else:
        compare(options)


if __name__ == "__main__":
    main()
