"""`merging jobs`: merges and sweeps in processes of their own."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from merging.cli.options import json_option, overwrite_option, workers_option
from merging.cli.text import printable, show_error, show_warning, size
from merging.hub.fetching import Fetch
from merging.jobs.jobs import Jobs
from merging.planning.explain import readable

if TYPE_CHECKING:
    from merging.jobs.job import Job

LOOK_SECONDS = 0.25
CODES = {"done": 0, "failed": 1, "lost": 1, "cancelled": 130}
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@click.group(invoke_without_command=True)
@click.option("--search", default="", metavar="TEXT", help="Only those in which every word of TEXT occurs.")
@json_option
@click.pass_context
def jobs(ctx: click.Context, search: str, as_json: bool) -> None:
    """List merges, sweeps and pushes that run in processes of their own, the newest first.

    One of them runs at a time on a machine, the others wait in the order in which they were submitted. They live in
    $MERGING_HOME/jobs, else in ~/.local/state/merging/jobs.

    \b
    Example:
      merging jobs submit recipe.yaml merged/
      merging jobs show x7k --follow
    """
    if ctx.invoked_subcommand is not None:
        return
    found = Jobs().search(search)
    if as_json:
        click.echo(json.dumps([job_json(job) for job in found], indent=2))
    elif found:
        click.echo(printable("\n".join(_table(found))))
    else:
        click.echo(f"no jobs in {Jobs().root}", err=True)


@jobs.command()
@click.argument("id")
@json_option
@click.option("--follow", is_flag=True, help="Stay until it is over; the exit code is then that of the job.")
def show(id: str, as_json: bool, follow: bool) -> None:
    """Show one job: state, progress, warnings, what went wrong. ID may be its beginning or its last letters."""
    job = Jobs().find(id)
    if follow:
        sys.exit(_follow(job, as_json))
    if as_json:
        click.echo(json.dumps({**job_json(job), "recipe": job.recipe, "events": job.events()}, indent=2))
    else:
        _show(job)


@jobs.command()
@click.argument("recipe", type=click.Path(dir_okay=False))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", default="", help="What to call it in lists.")
@click.option("--memory", type=size, metavar="SIZE", help="Bound on buffers; default: 4GiB.")
@click.option("--shard-size", type=size, metavar="SIZE", help="Bound on an output file; default: 5GB.")
@click.option("--device", help="Where to compute: cpu, cuda, cuda:1.")
@workers_option
@click.option("--lenient", is_flag=True, help="List unknown keys of the recipe and go on without them.")
@click.option("--allow-pickle", is_flag=True, help="Read .bin and .pt files, through a restricted unpickler.")
@click.option("--allow-unused", is_flag=True, help="Accept inputs and filters that change nothing.")
@click.option("--fetch", type=click.Choice(get_args(Fetch)), help="Bytes of models on the Hub; default: snapshot.")
@overwrite_option
@json_option
def submit(recipe: str, out: Path, name: str, as_json: bool, **options: Any) -> None:
    """Start merging RECIPE into OUT in the background, or put it in the line; prints the id.

    Everything that `merging check` finds is refused first. The job goes on when this terminal is closed.

    \b
    Example:
      merging jobs show $(merging jobs submit recipe.yaml merged/) --follow
    """
    words: list[str] = []
    for option, value in options.items():
        if value not in (None, False):
            words += [f"--{option.replace('_', '-')}", *([] if value is True else [str(value)])]
    # A path without a line break is read as a file.
    job = Jobs().submit(str(Path(recipe)), out, name=name, options=words)
    click.echo(json.dumps(job_json(job), indent=2) if as_json else job.id)


@jobs.command()
@click.argument("id")
def cancel(id: str) -> None:
    """Stop a job that waits or runs. What it has finished is kept: `merging jobs resume` goes on from there."""
    job = Jobs().find(id)
    job.cancel()
    click.echo(f"{job.id} will stop", err=True)


@jobs.command()
@click.argument("id")
def resume(id: str) -> None:
    """Go on with a job that was cancelled, failed or was killed; the result has the same bytes."""
    job = Jobs().find(id).resume()
    click.echo(f"{job.id} goes on", err=True)


@jobs.command()
@click.argument("id")
@click.option("--name", help="What to call the new one; default: as the old one.")
def again(id: str, name: str | None) -> None:
    """Start a sweep once more, with its recipe, grid and options as they were; prints the new id."""
    click.echo(Jobs().sweep_again(id, name=name).id)


@jobs.command()
@click.argument("ids", nargs=-1, required=True)
def remove(ids: tuple[str, ...]) -> None:
    """Forget jobs that are over. What they have merged stays."""
    for id in ids:
        Jobs().remove(id)


@jobs.command()
@click.argument("a")
@click.argument("b")
@click.option("--tensors", is_flag=True, help="Read both merges: how far every tensor of one is from the other's.")
@json_option
def compare(a: str, b: str, tensors: bool, as_json: bool) -> None:
    """Compare two jobs, or the folders of two merges: their settings, and what every tensor got.

    \b
    Example:
      merging jobs compare x7k 3pq
      merging jobs compare merged/ merged-2/ --tensors
    """
    from dataclasses import asdict

    from merging.jobs.compare import compare_ledgers, compare_merges, compare_recipes

    left, right = _side(a), _side(b)
    settings = compare_recipes(left[1], right[1])
    rows = list(compare_merges(left[0], right[0])) if tensors else compare_ledgers(left[2], right[2])
    if as_json:
        found = {"settings": [asdict(each) for each in settings], "tensors": [asdict(row) for row in rows]}
        # JSON has no word for what is no number.
        click.echo(json.dumps(_finite(found), indent=2))
        return
    lines = [f"{each.path}: {json.dumps(each.left)} | {json.dumps(each.right)}" for each in settings]
    click.echo(printable("\n".join(lines) if lines else "the recipes ask for the same"))
    apart = [row for row in rows if not row.same]
    click.echo(f"{len(rows)} tensors, {len(rows) - len(apart)} of them with the same bytes")
    for row in apart:
        distance = "" if row.distance != row.distance else f"  apart {row.distance:.3g}"
        norms = f"norm {row.left_norm:.4g} | {row.right_norm:.4g}"
        click.echo(printable(f"  {row.tensor}  {norms}{distance}  {row.note}".rstrip()))


def _side(name: str) -> tuple[Path, str, list[dict[str, Any]]]:
    """Output folder, recipe and ledger of a job, or of the merge in a folder."""
    from merging.engine.verify import record_of
    from merging.jobs.compare import recorded_recipe

    if Path(name).is_dir():
        return Path(name), recorded_recipe(name), list(record_of(Path(name))[1].values())
    job = Jobs().find(name)
    return job.out, job.recipe + "\n", job.ledger()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    if isinstance(value, list):
        return [_finite(held) for held in value]
    return None if (isinstance(value, float) and abs(value) == float("inf")) or value != value else value


def job_json(job: Job) -> dict[str, Any]:
    """A job as JSON data: what it is, how it stands, how far it is."""
    from dataclasses import asdict

    from merging.jobs.state import error_data

    error = job.error
    return {
        "id": job.id,
        "kind": job.kind,
        "name": job.name,
        "state": job.state,
        "stopping": job.is_stopping,
        "position": job.position,
        "method": job.method,
        "folder": str(job.folder),
        "out": str(job.out),
        "repository": job.repository or None,
        "published": job.published,
        "command": list(job.command),
        "created": job.created.isoformat(),
        "started": job.started and job.started.isoformat(),
        "ended": job.ended and job.ended.isoformat(),
        "progress": asdict(job.progress),
        "error": error and error_data(error),
    }


def _table(found: list[Job]) -> list[str]:
    head = ("id", "state", "progress", "method", "out", "age", "name")
    rows = [head, *(_row(job) for job in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(job: Job) -> tuple[str, ...]:
    state, place = job.state, job.position
    shown = f"queued ({place})" if place is not None else state
    done = "" if state == "queued" else f"{job.progress.share:.0%}"
    out = {"merge": str(job.out), "sweep": "(sweep)", "push": f"to {job.repository}"}[job.kind]
    return job.id, shown, done, job.method, out, _age(job.created), job.name


def _age(since: datetime) -> str:
    """How long ago, in the largest unit that is full."""
    seconds = max(0, int((datetime.now(UTC) - since).total_seconds()))
    unit, letter = next((unit for unit in _UNITS if seconds >= unit[0]), _UNITS[-1])
    return f"{seconds // unit} {letter}"


def _show(job: Job) -> None:
    progress = job.progress
    place = f", number {job.position} in the line" if job.position is not None else ""
    click.echo(printable(f"{job.id}  {job.state}{place}  {job.name}".rstrip()))
    what = {"merge": f"{job.method} into {job.out}", "sweep": f"sweep of {job.method}"}
    click.echo(printable(f"  {what.get(job.kind, f'{job.out} to {job.repository}')}"))
    pieces = {"sweep": "points", "push": "files"}.get(job.kind, "tensors")
    moved = f", {readable(progress.bytes_per_second)}/s" if progress.bytes_per_second else ""
    left = f", {progress.seconds_left:.0f} s left" if progress.seconds_left is not None else ""
    done = f"{progress.tensors_done} of {progress.tensors} {pieces}"
    click.echo(f"  {progress.share:.0%}, {done}, {progress.seconds:.1f} s{moved}{left}")
    for event in job.events():
        if event.get("event") == "Warned":
            show_warning(str(event.get("text")))
    if (published := job.published) is not None:
        click.echo(printable(f"  {published.get('pull_request') or published.get('url')}"))
    if (error := job.error) is not None:
        show_error(error)


def _follow(job: Job, as_json: bool) -> int:
    """Print what happens until the job is over; its exit code."""
    place = 0
    while True:
        over = job.state in CODES
        # Read after the state: what came before the end is all there.
        events, place = job.events_from(place)
        for event in events:
            if as_json:
                click.echo(json.dumps(event))
            else:
                _tell(event)
        if over:
            break
        time.sleep(LOOK_SECONDS)
    state = job.state
    if not as_json:
        click.echo(f"{job.id} is {state}", err=True)
        if (error := job.error) is not None:
            show_error(error)
    return CODES[state]


def _tell(event: dict[str, Any]) -> None:
    match event.get("event"):
        case "Waiting":
            click.echo(f"number {event.get('position')} in the line", err=True)
        case "Warned":
            show_warning(str(event.get("text")))
        case "Published":
            click.echo(str(event.get("pull_request") or event.get("url")), err=True)
        case "Progress":
            click.echo(f"{event.get('tensors_done')} of {event.get('tensors')}, {event.get('seconds')} s", err=True)
