"""Tables of the newest result, as Markdown, written between two markers of docs/quality.md; never typed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT
from benchmarks.quality.judge import mean
from benchmarks.tables import MIB, RESULTS, made_by, newest, put

PAGE = ROOT / "docs" / "quality.md"
HEAD = (
    "| method | at the paper's default | mean | norm | at its best setting | mean | norm | seconds | peak MiB |",
    "|---|---|---|---|---|---|---|---|---|",
)


def tables(result: Mapping[str, Any]) -> str:
    """Means and settings of every method, the best first; accuracy at every task; what could not be merged, and how."""
    measured = [row for row in result["rows"] if "best" in row]
    measured.sort(key=lambda row: (-mean(row["best"]["test"]), row["method"]))
    left = [row for row in result["rows"] if "best" not in row]
    reasons = [f"- {row['method']}: {row.get('reason') or row['failed']}" for row in left]
    parts = [_means(result, measured), _each_task(result, measured)]
    parts += ["Not in the table:\n\n" + "\n".join(reasons)] if reasons else []
    return "\n\n".join([*parts, _footnote(result)])


def normalised(scores: Mapping[str, float], fine_tuned: Mapping[str, float]) -> float:
    """Mean over the tasks of accuracy divided by the fine-tuned model's."""
    return mean({task: right / fine_tuned[task] for task, right in scores.items()})


def _means(result: Mapping[str, Any], measured: list[dict[str, Any]]) -> str:
    best = result["references"]["fine_tuned"]["test"]

    def figures(scores: Mapping[str, float]) -> str:
        return f"{100 * mean(scores):.1f} | {100 * normalised(scores, best):.1f}"

    lines = [*HEAD]
    for name, label in (("pretrained", "pretrained"), ("fine_tuned", "individual fine-tunes")):
        lines.append(f"| {label} | | | | | {figures(result['references'][name]['test'])} | | |")
    for row in measured:
        default, found = row["default"], row["best"]
        first = f"{_spelled(default['settings'])} | {figures(default['test'])}" if default else "– | – | –"
        edge = " (edge: " + ", ".join(row["at_edge"]) + ")" if row["at_edge"] else ""
        cut = " (search cut short)" if row["cut_short"] else ""
        peak = f"{found['peak_bytes'] / MIB:.0f}" if found["peak_bytes"] is not None else "–"
        lines.append(
            f"| {_named(row)} | {first} | {_spelled(found['settings'])}{edge}{cut} | {figures(found['test'])} "
            f"| {found['seconds']:.2f} | {peak} |"
        )
    return "\n".join(lines)


def _named(row: Mapping[str, Any]) -> str:
    given = f", given {', '.join(row['companions'])}" if row["companions"] else ""
    return f"{row['method']}{given}{', one model a task' if row['read_off'] else ''}"


def _spelled(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if _is_number(value) else f"{name} {value}" for name, value in settings.items()
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _each_task(result: Mapping[str, Any], measured: list[dict[str, Any]]) -> str:
    names = list(result["references"]["pretrained"]["test"])
    lines = [f"| test accuracy, % | {' | '.join(names)} | mean |", "|---" * (len(names) + 2) + "|"]
    references = result["references"]
    rows = [
        ("pretrained", references["pretrained"]["test"]),
        ("individual fine-tunes", references["fine_tuned"]["test"]),
    ]
    for label, scores in rows + [(_named(row), row["best"]["test"]) for row in measured]:
        cells = [f"{100 * scores[name]:.1f}" for name in names]
        lines.append(f"| {label} | {' | '.join(cells)} | {100 * mean(scores):.1f} |")
    return "\n".join(lines)


def _footnote(result: Mapping[str, Any]) -> str:
    training = result["training"]
    validation, test = (_counts(result["examples"][part]) for part in ("val", "test"))
    trials = sum(row.get("tried", 0) for row in result["rows"])
    sentences = [
        f"{result['encoder']}, fine-tuned on each task (AdamW, lr {training['rate']:g}, {training['epochs']} epochs,",
        f"batch {training['batch']}, at most {result['longest']} tokens). Heads are frozen; lookup tables are neither",
        f"trained nor merged, which leaves {result['merged_entries'] / 1e6:.1f} M entries. Every method merges all",
        f"fine-tunes, in the order of the columns. Settings are chosen on {validation} validation examples a task, one",
        f"parameter after the other, {trials} merges in all; accuracy is on {test} test examples.",
        *(["The scored encoder multiplies in bfloat16."] if result["effort"]["bfloat16"] else []),
        "*norm*: mean of accuracy divided by the fine-tuned model's. *edge*: the best value is the last of its grid.",
        f"What a method is *given* beside the models is over {result['statistics_examples']} training examples a task.",
        "Seconds and peak are of the merge at the best setting: models in memory, peak beyond them, with the output.",
        made_by(result),
    ]
    return " ".join(sentences)


def _counts(examples: Mapping[str, int]) -> str:
    least, most = min(examples.values()), max(examples.values())
    return f"{least}" if least == most else f"{least} to {most}"


def write_tables(page: Path = PAGE, folder: Path = RESULTS) -> None:
    """Put them into the page. Raises SystemExit where there is no result or the page has no markers."""
    result = newest("quality", folder=folder)
    if result is None:
        raise SystemExit(f"{folder} holds no result; python -m benchmarks.quality --data … makes one")
    put(page, "quality", tables(result))
