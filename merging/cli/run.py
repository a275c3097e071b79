"""`merging run`: carry out a recipe."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from merging.cli.options import overwrite_option, planning_options, quiet_option, recipe_argument, workers_option

if TYPE_CHECKING:
    from merging.jobs.worker import Worker
    from merging.planning.plan import Plan


@click.command()
@recipe_argument
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@planning_options
@workers_option
@overwrite_option
@click.option("--no-resume", is_flag=True, help="Begin anew instead of going on where an earlier run stopped.")
@quiet_option
@click.option("--json-events", is_flag=True, help="Print every event as a line of JSON.")
@click.option(
    "--job",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Keep state and events in FOLDER, where `merging jobs` finds them; wait for the jobs beside it.",
)
@click.pass_context
def run(
    ctx: click.Context,
    recipe: str,
    out: Path,
    planning: dict[str, Any],
    workers: int | None,
    overwrite: bool,
    no_resume: bool,
    quiet: bool,
    json_events: bool,
    job: Path | None,
) -> None:
    """Merge what RECIPE names into the folder OUT.

    OUT gets weights, config, tokenizer, a record of the merge (merging.json) and what every tensor got
    (merging-ledger.jsonl). An interrupted run goes on when the same command is given again.

    \b
    Example:
      merging run recipe.yaml merged/ --memory 2GiB
    """
    from merging.planning.build import plan

    options: dict[str, Any] = {"quiet": quiet, "json_events": json_events}
    options |= {"resume": not no_resume, "overwrite": overwrite, "workers": workers}
    if job is None:
        carry_out(plan(Path(recipe), **planning), out, planning, **options)
        return
    from merging.cli.worker import working

    with working(ctx, job, "merge", recipe, out) as worker:
        carry_out(plan(worker.folder / "recipe.yaml", **planning), out, planning, worker=worker, **options)


def carry_out(
    wish: Plan,
    out: Path,
    planning: dict[str, Any],
    *,
    quiet: bool,
    json_events: bool = False,
    worker: Worker | None = None,
    **options: Any,
) -> None:
    """Run a plan and show what happens; after an interruption, say how to go on."""
    from merging.cli.progress import summary, watch
    from merging.engine.run import run as run_plan

    events = cast("Generator[object]", run_plan(wish, out, allow_unused=planning["allow_unused"], **options))
    watched = events if worker is None else cast("Generator[object]", worker.watched(events))
    try:
        # Closed before anything else: the output is let go of, so that it can be gone on with at once.
        with closing(watched):
            seen = watch(watched, quiet=quiet, as_json=json_events)
    except KeyboardInterrupt:
        again = shlex.join(["merging", *(word for word in sys.argv[1:] if word != "--no-resume")])
        click.echo(f"\nInterrupted. Finished tensors are kept in {out}; to go on: {again}", err=True)
        sys.exit(130)
    if not json_events:
        click.echo(summary(seen, out))
