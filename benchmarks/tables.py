"""The README's benchmark tables, written from the newest result files between two markers; never typed.

python -m benchmarks.tables            print them
python -m benchmarks.tables --write    put them into README.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT

RESULTS = Path(__file__).parent / "results"
MIB = 2**20


def newest(benchmark: str, size: str | None = None, folder: Path = RESULTS) -> dict[str, Any] | None:
    """The latest result file of a benchmark; of the largest family where no size is given."""
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    found = [result for result in found if result["benchmark"] == benchmark and size in (None, result.get("size"))]
    return max(found, key=lambda result: (_billions(result.get("size")), result["date"]), default=None)


def _billions(size: str | None) -> float:
    return float(size.removesuffix("B")) if size else 0.0


def made_by(result: Mapping[str, Any]) -> str:
    """Machine, day and commit of a result, as a sentence."""
    machine = result["machine"]
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, torch {result['torch']}, "
        f"{result['date'][:10]}, commit {result['commit'][:10]}{' with changes' if result['changed_files'] else ''}."
    )


def put(page: Path, name: str, text: str) -> None:
    """Replace what stands between a page's lines `<!-- name:begin -->` and `<!-- name:end -->`.

    Raises SystemExit where the page has no such lines.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    held = page.read_text() if page.exists() else ""
    if begin not in held or end not in held:
        raise SystemExit(f"{page.name} needs the lines {begin} and {end}")
    before, after = held.split(begin)[0], held.split(end, 1)[1]
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def streaming_table(result: dict[str, Any]) -> str:
    """One line per recipe: our seconds and memory, their ratio to the floor, the peer's beside them."""
    medians: dict[str, dict[str, dict[str, float]]] = {}
    for row in result["rows"]:
        medians.setdefault(row["recipe"], {})[row["tool"]] = row["median"]
    lines = [
        "| recipe | I/O floor, s | ours, s | × floor | × floor without imports | ours, CPU s | ours, peak MiB "
        "| mergekit, s | mergekit, CPU s | mergekit, peak MiB | CPU, mergekit ÷ ours |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    idle = result["interpreter"]
    for recipe, tools in medians.items():
        lines.append(f"| {recipe} | " + " | ".join(_cells(tools, idle)) + " |")
    return "\n".join([*lines, "", _footnote(result)])


def _cells(tools: dict[str, dict[str, float]], idle: dict[str, float]) -> list[str]:
    floor, ours, peer = tools.get("floor_fsync", tools.get("floor")), tools.get("merging"), tools.get("mergekit")
    return [
        f"{floor['wall_seconds']:.1f}" if floor else "–",
        f"{ours['wall_seconds']:.1f}" if ours else "–",
        f"{ours['wall_seconds'] / floor['wall_seconds']:.2f}" if ours and floor else "–",
        f"{(ours['wall_seconds'] - idle['wall_seconds']) / floor['wall_seconds']:.2f}" if ours and floor else "–",
        f"{_cpu(ours):.1f}" if ours else "–",
        f"{(ours['peak_bytes'] - idle['peak_bytes']) / MIB:.0f}" if ours else "–",
        f"{peer['wall_seconds']:.1f}" if peer else "–",
        f"{_cpu(peer):.0f}" if peer else "–",
        f"{(peer['peak_bytes'] - idle['peak_bytes']) / MIB:.0f}" if peer else "–",
        f"{_cpu(peer) / _cpu(ours):.1f}" if peer and ours else "–",
    ]


def _cpu(cost: dict[str, float]) -> float:
    return cost["user_seconds"] + cost["system_seconds"]


def _footnote(result: dict[str, Any]) -> str:
    idle = result["interpreter"]
    days = sorted(
        {row["date"][:10] for row in result["rows"] if row["tool"] == "mergekit" and "date" in row}
        - {result["date"][:10]}
    )
    sentences = [
        f"{result['size']} Llama-shaped bf16, base + {result['models']} fine-tunes, warm cache, medians,",
        f"whole processes (importing torch takes {idle['wall_seconds']:.1f} s of ours).",
        "The floor reads the recipe's inputs once, copies one output and waits for the disk, as we do.",
        f"Peaks are beyond an interpreter that has imported torch ({idle['peak_bytes'] / MIB:.0f} MiB).",
        f"The machine was shared with other work (load average {result['load_average']:.1f} at the end).",
        made_by(result),
        *([f"mergekit was measured on {' and '.join(days)}, on the same machine and inputs."] if days else []),
        *_busy(result),
    ]
    return " ".join(sentences)


def _busy(result: dict[str, Any]) -> list[str]:
    """What must be said where mergekit shared the cores with other work."""
    load = max((row.get("load_average", 0.0) for row in result["rows"] if row["tool"] == "mergekit"), default=0.0)
    told = f"mergekit ran at a load average of {load:.1f}, so that its seconds are too long: compare its CPU seconds."
    return [told] if load > result["machine"]["cores"] else []


def memory_table(result: dict[str, Any]) -> str:
    """Peak memory beyond the interpreter: a line per family, a column per recipe."""
    rows = result["rows"]
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    cases = list(dict.fromkeys((row["size"], row["models"], " ".join(row["options"])) for row in rows))
    lines = [f"| peak MiB | {' | '.join(recipes)} |", "|---" * (len(recipes) + 1) + "|"]
    for case in cases:
        found = {
            row["recipe"]: row["peak_beyond_interpreter_bytes"] / MIB
            for row in rows
            if (row["size"], row["models"], " ".join(row["options"])) == case
        }
        size, models, options = case
        family = "one tensor of 512 MiB" if size == "tall" else size
        head = f"{family}, base + {models}{', `' + options + '`' if options else ''}"
        lines.append(f"| {head} | " + " | ".join(f"{found[r]:.0f}" if r in found else "–" for r in recipes) + " |")
    return "\n".join(lines)


def tables() -> str:
    """All tables that there are results for, as Markdown."""
    streaming, memory = newest("streaming"), newest("memory")
    parts = [streaming_table(streaming)] if streaming else []
    parts += [memory_table(memory)] if memory else []
    return "\n\n".join(parts)


def write_tables(readme: Path = ROOT / "README.md") -> None:
    """Put them into the README. Raises SystemExit where it has no markers."""
    put(readme, "benchmark", tables())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        write_tables()
    else:
        print(tables())


if __name__ == "__main__":
    main()
