"""`merging run`: carry out a recipe."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from merging.cli.options import overwrite_option, planning_options, quiet_option, recipe_argument, workers_option


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
    from merging.cli.progress import summary, watch
    from merging.engine.run import run as carry_out
    from merging.planning.build import plan

    wish = plan(Path(recipe), **planning)
    allow_unused = planning["allow_unused"]
    events = carry_out(wish, out, resume=not no_resume, overwrite=overwrite, workers=workers, allow_unused=allow_unused)
    try:
        seen = watch(events, quiet=quiet, as_json=json_events)
    except KeyboardInterrupt:
        again = shlex.join(["merging", *(word for word in sys.argv[1:] if word != "--no-resume")])
        click.echo(f"\nInterrupted. Finished tensors are kept in {out}; to go on: {again}", err=True)
        sys.exit(130)
    if not json_events:
        click.echo(summary(seen, out))
