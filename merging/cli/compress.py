"""`merging compress`: many fine-tunes as one vector, a bit per entry and a number for each."""

from __future__ import annotations

import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from merging.cli.options import overwrite_option, planning_options, quiet_option, recipe_argument, workers_option

if TYPE_CHECKING:
    from collections.abc import Generator

    from merging.engine.store_plan import StorePlan


@click.command()
@recipe_argument
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@planning_options
@workers_option
@overwrite_option
@click.option("--no-resume", is_flag=True, help="Begin anew instead of going on where an earlier run stopped.")
@click.option("--dry-run", is_flag=True, help="Say what would be kept and what it takes; write nothing.")
@quiet_option
@click.option("--json-events", is_flag=True, help="Print every event as a line of JSON.")
def compress(
    recipe: str,
    out: Path,
    planning: dict[str, Any],
    workers: int | None,
    overwrite: bool,
    no_resume: bool,
    dry_run: bool,
    quiet: bool,
    json_events: bool,
) -> None:
    """Keep the tasks of all models of RECIPE in the folder OUT: one task vector, a mask and a scale for each.

    RECIPE's method must be one that keeps tasks apart, such as emr or tall_masks. The vector is stored in the recipe's
    `out_dtype` or `dtype`, else in float32. Any command and any recipe reads a task back as the model store:OUT#task,
    by the name of the model it came from or by its number; the base model must stay where it is. An interrupted run
    goes on when the same command is given again.

    Where the base model is on the Hub, `merging push OUT owner/name` publishes the store, and store:owner/name#task
    reads a task from there.

    \b
    Examples:
      merging compress recipe.yaml tasks/
      merging inspect store:tasks#math
      merging compress other.yaml tasks/ --overwrite
    """
    from merging.engine.compress import prepare

    store = prepare(Path(recipe), out, overwrite=overwrite, **planning)
    if not quiet and not json_events:
        click.echo(_outlook(store), err=not dry_run)
    if dry_run:
        return
    options = {"workers": workers, "resume": not no_resume, "overwrite": overwrite}
    _keep(store, out, planning["allow_unused"], quiet=quiet, as_json=json_events, **options)
    if not json_events:
        click.echo("tasks: " + ", ".join(f"store:{out}#{task}" for task in store.record.tasks))


def _outlook(store: StorePlan) -> str:
    """What will be kept, and what it takes."""
    from merging.planning.explain import readable

    count = len(store.record.tasks)
    shared = store.nbytes - count * store.mask_bytes
    return (
        f"{count} tasks, {readable(store.models_bytes)} of models: {readable(shared)} for all of them and "
        f"{readable(store.mask_bytes)} for each, {readable(store.nbytes)} of disk"
    )


def _keep(store: StorePlan, out: Path, allow_unused: bool, *, quiet: bool, as_json: bool, **options: Any) -> None:
    """Carry it out and show what happens; after an interruption, say how to go on."""
    from merging.cli.progress import summary, watch
    from merging.engine.compress import keep

    events = keep(store, out, allow_unused=allow_unused, **options)
    try:
        with closing(cast("Generator[object]", events)) as watched:
            seen = watch(watched, quiet=quiet, as_json=as_json)
    except KeyboardInterrupt:
        again = shlex.join(["merging", *(word for word in sys.argv[1:] if word != "--no-resume")])
        click.echo(f"\nInterrupted. Finished tensors are kept in {out}; to go on: {again}", err=True)
        sys.exit(130)
    if not as_json:
        click.echo(summary(seen, out))
