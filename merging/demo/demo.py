"""Merge the bundled models with every method there is, score each merge, and leave the best one on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from merging.checkpoint.shards import open_checkpoint
from merging.checkpoint.sink import write_whole
from merging.demo.scores import score
from merging.demo.trials import Bench, Trial, mean
from merging.demo.zoo import Zoo, find_zoo
from merging.engine.merge import merge
from merging.errors import OutputError
from merging.methods.declare import Method, all_methods, find_method
from merging.planning.check import STATE
from merging.recipe.recipe import ModelEntry, Recipe

if TYPE_CHECKING:
    from rich.console import RenderableType

RECIPE = "recipe.yaml"
# First line of the recipe: a folder that holds it is an earlier demo's and may be replaced.
MARK = "# The best merge that `merging demo` found by its validation digits.\n"


@dataclass(frozen=True)
class Row:
    """One model of the table: share of test digits read right, by task; `note` says what is special about it.

    `share` is the mean over the tasks of the accuracy divided by that of the task's own fine-tune. `seconds` is what
    merging took, None for models that are no merge.
    """

    name: str
    scores: Mapping[str, float]
    share: float
    settings: str = ""
    seconds: float | None = None
    note: str = ""

    @property
    def mean(self) -> float:
        """Mean accuracy over the tasks."""
        return mean(self.scores)


@dataclass(frozen=True)
class Table:
    """What `run_demo` found: single models, merges from worst to best, methods left out and why, the merge on disk."""

    tasks: Mapping[str, str]
    models: tuple[Row, ...]
    merges: tuple[Row, ...]
    skipped: Mapping[str, str]
    best: str
    out: Path


def run_demo(
    out: Path | str, methods: Sequence[str] | None = None, *, watch: Callable[[str], None] | None = None
) -> Table:
    """Score the bundled models and their merges by every method, or by those named; the best merge goes to `out`.

    Settings are chosen on validation digits, the scores are of test digits. `watch` is told what is being merged.
    Raises OutputError when `out` holds anything but an earlier demo's merge.
    """
    out = Path(out)
    _refuse_occupied(out)
    chosen = all_methods() if methods is None else {name: find_method(name) for name in methods}
    zoo = find_zoo()
    models = {"base": zoo.base, **zoo.fine_tunes}
    bench = Bench(zoo, {name: open_checkpoint(path) for name, path in models.items()}, "base")
    scores = {name: score(model, zoo=zoo) for name, model in bench.models.items()}
    own = {task: scores[task][task] for task in zoo.tasks}
    trials: dict[str, Trial] = {}
    skipped: dict[str, str] = {}
    for name, method in chosen.items():
        _try(name, method, bench, trials, skipped, watch)
    rows = [_row(name, trial, own, zoo) for name, trial in trials.items()]
    best = _best(trials)
    if best is not None:
        _write(trials[best].recipe, models, out)
    singles = tuple(Row(name, each, _share(each, own)) for name, each in scores.items())
    return Table(zoo.tasks, singles, tuple(sorted(rows, key=lambda row: row.mean)), skipped, best or "", out)


def _refuse_occupied(out: Path) -> None:
    if not out.exists() or (out.is_dir() and ((out / STATE).exists() or not any(out.iterdir()) or _is_ours(out))):
        return
    raise OutputError(f"{out} is not empty", must_be="a new or empty folder, or an earlier demo's", fix="name another")


def _is_ours(out: Path) -> bool:
    return (out / RECIPE).is_file() and (out / RECIPE).read_text(encoding="utf-8").startswith(MARK)


def _try(
    name: str,
    method: Method,
    bench: Bench,
    trials: dict[str, Trial],
    skipped: dict[str, str],
    watch: Callable[[str], None] | None,
) -> None:
    if watch is not None:
        watch(name)
    found = bench.best(method)
    if isinstance(found, str):
        skipped[name] = found
    else:
        trials[name] = found


def _row(name: str, trial: Trial, own: Mapping[str, float], zoo: Zoo) -> Row:
    scores = score(trial.merged, zoo=zoo)
    settings = ", ".join(f"{name} {value}" for name, value in trial.settings.items())
    merged = [entry.source for entry in trial.recipe.models if entry.source in zoo.tasks]
    note = "" if len(merged) == len(zoo.tasks) else f"of {', '.join(merged)} alone"
    return Row(name, scores, _share(scores, own), settings, trial.seconds, note)


def _share(scores: Mapping[str, float], own: Mapping[str, float]) -> float:
    return mean({task: scores[task] / own[task] for task in own})


def _best(trials: Mapping[str, Trial]) -> str | None:
    return max(trials, key=lambda name: trials[name].mean, default=None)


def _write(recipe: Recipe, models: Mapping[str, Path], out: Path) -> None:
    """Carry out a recipe of bare names into a folder, and put it there with paths that hold from that folder."""
    # Paths through a folder that does not exist lead nowhere.
    out.mkdir(parents=True, exist_ok=True)
    paths = {name: os.path.relpath(path.resolve(), out.resolve()) for name, path in models.items()}
    spelled = replace(
        recipe,
        models=tuple(ModelEntry(paths[entry.source], entry.parameters) for entry in recipe.models),
        base_model=paths[recipe.base_model] if recipe.base_model else None,
        file=str(out / RECIPE),
    )
    merge(spelled, out, overwrite=_is_ours(out))
    write_whole(out / RECIPE, (MARK + spelled.text()).encode())


def render(table: Table) -> RenderableType:
    """The table as a terminal shows it: accuracies in per cent, each fine-tune's own task in bold."""
    from rich.console import Group
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(title="Test digits read right, %", title_justify="left", header_style="bold")
    grid.add_column("model")
    for task in table.tasks:
        grid.add_column(task.replace("_", " "), justify="right")
    for column in ("mean", "of own", "seconds"):
        grid.add_column(column, justify="right")
    grid.add_column("setting")
    for row in (*table.models, *table.merges):
        if table.merges and row is table.merges[0]:
            grid.add_section()
        cells = [_percent(row.scores[task], bold=task == row.name) for task in table.tasks]
        style = "bold green" if row.name == table.best else ""
        seconds = "" if row.seconds is None else f"{row.seconds:.2f}"
        told = "; ".join(part for part in (row.settings, row.note) if part)
        grid.add_row(row.name, *cells, _percent(row.mean), _percent(row.share), seconds, told, style=style)
    lines = [Text(f"{name} left out: {reason}", style="dim") for name, reason in table.skipped.items()]
    return Group(grid, *lines)


def _percent(value: float, bold: bool = False) -> str:
    return f"[bold]{100 * value:.1f}[/bold]" if bold else f"{100 * value:.1f}"
