"""What methods cost, as tables between the markers of docs/costs.md; from the newest results, never typed.

python -m benchmarks.methods --keep; python -m benchmarks.spectral --keep
python -m benchmarks.costs
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT
from benchmarks.tables import MIB, RESULTS, made_by, newest, put

PAGE = ROOT / "docs" / "costs.md"
SEEN = {
    "element": "entries",
    "span": "entries",
    "row": "rows",
    "matrix": "a matrix",
    "tensor": "a tensor",
}


def methods_table(result: Mapping[str, Any]) -> str:
    """One line per method, the cheapest first."""
    lines = [
        "| method | models | sees at once | readings | rounds, ns | merge, ns | ns per entry | peak MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(result["rows"], key=lambda row: row["nanoseconds_per_entry"]):
        peak = "–" if row["peak_bytes"] is None else f"{row['peak_bytes'] / MIB:.0f}"
        rounds = sum(row["rounds"].values())
        lines.append(
            f"| {row['method']} | {row['models']} | {SEEN[row['reach']]} | {row['readings']} | {rounds:.1f} "
            f"| {row['merge']:.1f} | {row['nanoseconds_per_entry']:.1f} | {peak} |"
        )
    side = result["side"]
    told = f"One thread. What sees a row or more was given {side} × {side}. {made_by(result)}"
    return "\n".join([*lines, "", told])


def spectral_table(result: Mapping[str, Any]) -> str:
    """One line per operation and shape."""
    lines = ["| operation | shape | ours, CPU s | plain, CPU s | plain ÷ ours | apart |", "|---|---|---|---|---|---|"]
    for row in result["rows"]:
        rows, columns = row["shape"]
        lines.append(
            f"| {row['what']} | {rows} × {columns} | {row['ours']:.3f} | {row['plain']:.3f} "
            f"| {row['plain'] / row['ours']:.1f} | {row['apart']:.0e} |"
        )
    return "\n".join([*lines, "", f"One thread. {made_by(result)}"])


def write_tables(page: Path = PAGE, folder: Path = RESULTS) -> None:
    """Put both tables into the page. Raises SystemExit where there is no result, or the page has no markers."""
    for name, table in (("methods", methods_table), ("spectral", spectral_table)):
        result = newest(name, folder=folder)
        if result is None:
            raise SystemExit(f"there is no result yet; python -m benchmarks.{name} --keep makes one")
        put(page, name, table(result))


if __name__ == "__main__":
    write_tables()
