"""Two result files of one benchmark as a table; ends with 1 when the newer one is slower or larger beyond a tolerance.

python -m benchmarks.compare OLD.json NEW.json --tolerance 0.15
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Differences below these are noise whatever their ratio.
NOISE = {"cpu seconds": 0.3, "peak MiB": 32.0, "ns per entry": 0.05}


@dataclass(frozen=True)
class Change:
    """One figure in both files."""

    what: str
    figure: str
    old: float
    new: float

    def is_regression(self, tolerance: float) -> bool:
        """Whether it grew by more than the tolerance and by more than noise."""
        return self.new > self.old * (1 + tolerance) and self.new - self.old > NOISE[self.figure]


def figures(result: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """What is compared: CPU seconds and peaks of our own runs, or nanoseconds per entry; never wall time."""
    for row in result["rows"]:
        if result["benchmark"] == "streaming" and row["tool"] == "merging":
            cost = row["median"]
            yield row["recipe"], "cpu seconds", cost["user_seconds"] + cost["system_seconds"]
            yield row["recipe"], "peak MiB", (cost["peak_bytes"] - result["interpreter"]["peak_bytes"]) / 2**20
        elif result["benchmark"] == "memory":
            what = " ".join([row["size"], str(row["models"]), row["recipe"], *row["options"]])
            yield what, "peak MiB", row["peak_beyond_interpreter_bytes"] / 2**20
        elif result["benchmark"] == "methods":
            yield row["method"], "ns per entry", row["nanoseconds_per_entry"]


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Every figure that both files hold.

    Raises SystemExit when they are not of one benchmark and size.
    """
    kinds = [(result["benchmark"], result.get("size"), result.get("models")) for result in (old, new)]
    if kinds[0] != kinds[1]:
        raise SystemExit(f"these cannot be compared: {kinds[0]} and {kinds[1]}")
    before = {(what, figure): value for what, figure, value in figures(old)}
    return [
        Change(what, figure, before[what, figure], value)
        for what, figure, value in figures(new)
        if (what, figure) in before
    ]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.15, help="as a fraction of the old figure")
    options = parser.parse_args()
    found = changes(json.loads(options.old.read_text()), json.loads(options.new.read_text()))
    for change in found:
        mark = "  WORSE" if change.is_regression(options.tolerance) else ""
        ratio = f"{change.new / change.old:.2f}" if change.old else "–"
        print(f"{change.what:40} {change.figure:14} {change.old:10.2f} {change.new:10.2f}  × {ratio}{mark}")
    if any(change.is_regression(options.tolerance) for change in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
