"""`merging sweep`: one recipe at every point of a grid, each merge scored."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merging.cli.options import json_option, planning_options, quiet_option, recipe_argument, workers_option
from merging.cli.points import Book, report
from merging.errors import MatchError, MergingError
from merging.recipe.axes import Axis, read_axis
from merging.recipe.recipe import Scalar
from merging.recipe.variants import grid

if TYPE_CHECKING:
    from merging.checkpoint.tensors import Checkpoint
    from merging.jobs.worker import Worker

# The bundled models are so small that several are merged side by side.
MOST_AT_ONCE = 4
_PREFIX = ".points-"
Axes = dict[str, tuple[Scalar, ...]]


class _Axis(click.ParamType):  # type: ignore[type-arg]
    """See `merging.recipe.axes`."""

    name = "axis"

    def convert(self, value: Any, _: click.Parameter | None, ctx: click.Context | None) -> Axis:
        if isinstance(value, Axis):
            return value
        try:
            return read_axis(str(value))
        except MergingError as error:
            self.fail(f"{error.what}; write {error.must_be}", None, ctx)


@click.command()
@recipe_argument
@click.option("--vary", "varied", type=_Axis(), multiple=True, required=True, metavar="AXIS=VALUES", help="May repeat.")
@click.option(
    "--score",
    type=click.Choice(["zoo", "zoo-test"]),
    help="Digits that the bundled models read: validation digits, or the test digits.",
)
@click.option(
    "--score-command", metavar="COMMAND", help="Prints a number or a JSON object about the merge in {folder}."
)
@click.option("--table", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.csv", help="Write all points.")
@click.option("--scratch", type=click.Path(file_okay=False, path_type=Path), help="Where merges to be scored lie.")
@click.option(
    "--job", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER", help="Keep points in FOLDER."
)
@planning_options
@workers_option
@quiet_option
@json_option
@click.pass_context
def sweep(
    ctx: click.Context,
    recipe: str,
    varied: Sequence[Axis],
    score: str | None,
    score_command: str | None,
    table: Path | None,
    scratch: Path | None,
    job: Path | None,
    planning: dict[str, Any],
    workers: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Merge RECIPE at every point of a grid and score each merge; larger scores are better.

    An axis is a parameter (lambda), or that of one model (weight[0], weight.MODEL). Prints the best points, the best
    of each task and the Pareto front: the points that no other beats in every task. With --job a sweep that was
    interrupted goes on where it stopped.

    \b
    Example:
      merging sweep recipe.yaml --vary lambda=0:1.5:7 --vary density=0.1,0.2,0.5 --score zoo --table sweep.csv
      merging sweep recipe.yaml --vary 'weight[0]=0,0.5,1' --score-command 'python eval.py {folder}'
    """
    axes: Axes = {axis.name: axis.values for axis in varied}
    if len(axes) < len(varied):
        raise click.UsageError("an axis is named twice in --vary")
    if (score is None) == (score_command is None):
        raise click.UsageError("name one of --score and --score-command")
    settings = {**planning, "workers": workers, **_scoring(score, score_command)}
    from merging.cli.worker import working

    with nullcontext() if job is None else working(ctx, job, "sweep", recipe) as worker:
        book = Book(list(grid(axes)), worker, table, quiet=quiet or as_json)
        try:
            _carry_out(Path(recipe), axes, book, worker, scratch, settings)
        except KeyboardInterrupt:
            report(book.points, as_json)
            click.echo("\nInterrupted.", err=True)
            sys.exit(130)
        report(book.points, as_json)
        book.require_scores()


def _carry_out(
    recipe: Path, axes: Axes, book: Book, worker: Worker | None, scratch: Path | None, settings: dict[str, Any]
) -> None:
    """Every point that the book lacks."""
    from merging.recipe.text import read_recipe
    from merging.sweep.sweep import sweep as sweep_points

    file = recipe if worker is None else worker.folder / "recipe.yaml"
    wish = read_recipe(file, lenient=bool(settings["lenient"]))
    score, on_disk = settings.pop("score"), settings.pop("on_disk")
    with _folder(worker, scratch) if on_disk else nullcontext() as place:
        points = sweep_points(wish, axes, score, on_disk=place, done=book.done, **settings)
        with closing(points if worker is None else worker.watched(points)) as watched:
            for point in watched:
                book.add(point)


@contextmanager
def _folder(worker: Worker | None, scratch: Path | None) -> Iterator[Path]:
    """Where merges lie while they are scored. What a killed run left in the job's folder is removed."""
    if worker is not None:
        for left in worker.folder.glob(f"{_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        scratch = scratch or worker.folder
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=scratch) as place:
        yield Path(place)


def _scoring(score: str | None, command: str | None) -> dict[str, Any]:
    """How merges are scored, as keywords of `merging.sweep`."""
    if command is not None:
        from merging.sweep.command import CommandScore

        return {"score": CommandScore(command), "on_disk": True}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"score": _ZooScore(score == "zoo-test"), "on_disk": False, "at_once": min(cores, MOST_AT_ONCE)}


class _ZooScore:
    """The digits that the bundled models read; on one core, since their layers are too small to share."""

    def __init__(self, test: bool):
        self._test = test

    def __call__(self, checkpoint: Checkpoint) -> Mapping[str, float]:
        from merging.demo.scores import score
        from merging.lazy import torch

        if "vit.embeddings.cls_token" not in checkpoint.specs:
            raise MatchError(
                "only merges of the bundled models can read digits",
                must_be="a merge of models in data/zoo",
                fix="score your own models with --score-command",
            )
        torch.set_num_threads(1)
        return score(checkpoint, "test" if self._test else "validation")
