"""`merging run`: carry out a recipe."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from merging.cli.options import (
    job_option,
    overwrite_option,
    planning_options,
    quiet_option,
    recipe_argument,
    workers_option,
)

if TYPE_CHECKING:
    from merging.cli.progress import Seen
    from merging.engine.delivery import Delivery
    from merging.jobs.worker import Worker
    from merging.planning.plan import Plan


Command = Callable[..., Any]


def push_options(command: Command) -> Command:
    """Where the weights are sent while they are made. The command gets them together, in `pushing`."""

    @wraps(command)
    def gathered(**given: Any) -> Any:
        names = ("repository", "branch", "pull_request", "public", "keeps_weights")
        pushing = {name: given.pop(name) for name in names}
        if pushing["repository"] is None and any(pushing.values()):
            raise click.UsageError("--push-branch, --push-pr, --push-public and --keep-weights need --push")
        return command(pushing=pushing, **given)

    options = (
        click.option(
            "--push",
            "repository",
            metavar="OWNER/NAME[@BRANCH]",
            help="Send the weights to this repository on the Hub while they are made, instead of keeping them in OUT.",
        ),
        click.option("--push-branch", "branch", metavar="B", help="Commit to this branch, made if it is missing."),
        click.option("--push-pr", "pull_request", is_flag=True, help="Open a pull request instead of changing main."),
        click.option("--push-public", "public", is_flag=True, help="Make a new repository public."),
        click.option("--keep-weights", "keeps_weights", is_flag=True, help="With --push, keep the weights in OUT too."),
    )
    for option in reversed(options):
        gathered = option(gathered)
    return gathered


@click.command()
@recipe_argument
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@planning_options
@workers_option
@overwrite_option
@click.option("--no-resume", is_flag=True, help="Begin anew instead of going on where an earlier run stopped.")
@push_options
@quiet_option
@click.option("--json-events", is_flag=True, help="Print every event as a line of JSON.")
@job_option
@click.pass_context
def run(
    ctx: click.Context,
    recipe: str,
    out: Path,
    planning: dict[str, Any],
    workers: int | None,
    overwrite: bool,
    no_resume: bool,
    pushing: dict[str, Any],
    quiet: bool,
    json_events: bool,
    job: Path | None,
) -> None:
    """Merge what RECIPE names into the folder OUT.

    OUT gets weights, config, tokenizer, a record of the merge (merging.json) and what every tensor got
    (merging-ledger.jsonl). An interrupted run goes on when the same command is given again.

    With --push the weights go to the Hub while they are made, and OUT gets everything else. Nothing is visible there
    before one commit at the very end, which is then compared with what was sent.

    \b
    Examples:
      merging run recipe.yaml merged/ --memory 2GiB
      merging run recipe.yaml merged/ --fetch ranges --push ada/my-merge
    """
    from merging.planning.build import plan

    options: dict[str, Any] = {"quiet": quiet, "json_events": json_events}
    options |= {"resume": not no_resume, "overwrite": overwrite, "workers": workers}
    if job is None:
        carry_out(plan(Path(recipe), **planning), out, planning, deliver=_delivery(**pushing), **options)
        return
    from merging.cli.worker import working

    with working(ctx, job, "merge", recipe, out) as worker:
        wish = plan(worker.folder / "recipe.yaml", **planning)
        seen = carry_out(wish, out, planning, worker=worker, deliver=_delivery(**pushing), **options)
        if seen.published:
            worker.published(seen.published)


def _delivery(
    repository: str | None, branch: str | None, pull_request: bool, public: bool, keeps_weights: bool
) -> Delivery | None:
    """Where the weights go; None where they stay."""
    if repository is None:
        return None
    from merging.hub.client import Hub
    from merging.publish.delivering import HubDelivery
    from merging.publish.upload import Target

    target = Target.of(repository, branch, pull_request=pull_request, private=not public)
    return HubDelivery(Hub.from_environment(), target, keeps_weights=keeps_weights)


def carry_out(
    wish: Plan,
    out: Path,
    planning: dict[str, Any],
    *,
    quiet: bool,
    json_events: bool = False,
    worker: Worker | None = None,
    deliver: Delivery | None = None,
    **options: Any,
) -> Seen:
    """Run a plan and show what happens; after an interruption, say how to go on."""
    from merging.cli.progress import summary, watch
    from merging.engine.run import run as run_plan

    allowed = planning["allow_unused"]
    events = cast("Generator[object]", run_plan(wish, out, allow_unused=allowed, deliver=deliver, **options))
    watched = events if worker is None else cast("Generator[object]", worker.watched(events))
    try:
        # Closed before anything else: the output is let go of, so that it can be gone on with at once.
        with closing(watched):
            seen = watch(watched, quiet=quiet, as_json=json_events)
    except KeyboardInterrupt:
        again = shlex.join(["merging", *(word for word in sys.argv[1:] if word != "--no-resume")])
        kept = f"Finished tensors are kept in {out}"
        if deliver is not None:
            kept = f"{out} remembers what has been sent to {deliver.place}, where nothing of it is visible yet"
        click.echo(f"\nInterrupted. {kept}; to go on: {again}", err=True)
        sys.exit(130)
    if not json_events:
        click.echo(summary(seen, out))
    return seen
