"""Tables of the newest result, as Markdown, written between two markers of docs/quality.md; never typed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT
from benchmarks.quality.judge import mean
from benchmarks.streaming import RESULTS

PAGE = ROOT / "docs" / "quality.md"
BEGIN, END = "<!-- quality:begin -->", "<!-- quality:end -->"
MIB = 2**20
HEAD = (
    "| method | at the paper's default | mean | norm | at its best setting | mean | norm | seconds | peak MiB |",
    "|---|---|---|---|---|---|---|---|---|",
)


def newest(folder: Path = RESULTS) -> dict[str, Any]:
    """The latest result.

    Raises SystemExit where there is none.
    """
    found = [json.loads(path.read_text()) for path in folder.glob("quality-*.json")]
    if not found:
        raise SystemExit(f"{folder} holds no quality-*.json; python -m benchmarks.quality --data … makes one")
    return max(found, key=lambda result: str(result["date"]))


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
    machine, training = result["machine"], result["training"]
    validation, test = (_counts(result["examples"][part]) for part in ("val", "test"))
    trials = sum(row.get("tried", 0) for row in result["rows"])
    sentences = [
        f"{result['encoder']}, fine-tuned on each task (AdamW, lr {training['rate']:g}, {training['epochs']} epochs,",
        f"batch {training['batch']}, at most {result['longest']} tokens). Heads are frozen; lookup tables are neither",
        f"trained nor merged, which leaves {result['merged_entries'] / 1e6:.1f} M entries. Every method merges all",
        f"fine-tunes, in the order of the columns. Settings are chosen on {validation} validation examples a task, one",
        f"parameter after the other, {trials} merges in all; accuracy is on {test} test examples.",
        "*norm*: mean of accuracy divided by the fine-tuned model's. *edge*: the best value is the last of its grid.",
        f"What a method is *given* beside the models is over {result['statistics_examples']} training examples a task.",
        "Seconds and peak are of the merge at the best setting: models in memory, peak beyond them, with the output.",
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, torch {result['torch']},",
        f"{result['date'][:10]}, commit {result['commit'][:10]}{' with changes' if result['changed_files'] else ''}.",
    ]
    return " ".join(sentences)


def _counts(examples: Mapping[str, int]) -> str:
    least, most = min(examples.values()), max(examples.values())
    return f"{least}" if least == most else f"{least} to {most}"


def write_tables(page: Path = PAGE, folder: Path = RESULTS) -> None:
    """Replace what stands between the markers.

    Raises SystemExit where the page has none.
    """
    text = page.read_text() if page.exists() else ""
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{page.name} needs the lines {BEGIN} and {END}")
    before, after = text.split(BEGIN)[0], text.split(END, 1)[1]
    page.write_text(f"{before}{BEGIN}\n{tables(newest(folder))}\n{END}{after}")
