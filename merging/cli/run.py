"""`merging run`: carry out a recipe."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merging.cli.options import overwrite_option, planning_options, quiet_option, recipe_argument, workers_option

if TYPE_CHECKING:
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
def run(
    recipe: str,
    out: Path,
    planning: dict[str, Any],
    workers: int | None,
    overwrite: bool,
    no_resume: bool,
    quiet: bool,
    json_events: bool,
) -> None:
    """Merge what RECIPE names into the folder OUT.

    OUT gets weights, config, tokenizer, a record of the merge (merging.json) and what every tensor got
    (merging-ledger.jsonl). An interrupted run goes on when the same command is given again.

    \b
    Example:
      merging run recipe.yaml merged/ --memory 2GiB
    """
    from merging.planning.build import plan

    options = {"resume": not no_resume, "overwrite": overwrite, "workers": workers}
    carry_out(plan(Path(recipe), **planning), out, planning, quiet=quiet, json_events=json_events, **options)


def carry_out(
    wish: Plan, out: Path, planning: dict[str, Any], *, quiet: bool, json_events: bool = False, **options: Any
) -> None:
    """Run a plan and show what happens; after an interruption, say how to go on."""
    from merging.cli.progress import summary, watch
    from merging.engine.run import run as run_plan

    events = run_plan(wish, out, allow_unused=planning["allow_unused"], **options)
    try:
        seen = watch(events, quiet=quiet, as_json=json_events)
    except KeyboardInterrupt:
        again = shlex.join(["merging", *(word for word in sys.argv[1:] if word != "--no-resume")])
        click.echo(f"\nInterrupted. Finished tensors are kept in {out}; to go on: {again}", err=True)
        sys.exit(130)
    if not json_events:
        click.echo(summary(seen, out))
