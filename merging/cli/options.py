"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import click

from merging.cli.text import size
from merging.hub.fetching import Fetch

Command = Callable[..., Any]

recipe_argument = click.argument("recipe", metavar="RECIPE", type=click.Path(dir_okay=False))
workers_option = click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Threads; default: all cores.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Print results and errors only.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what OUT holds.")
fetch_option = click.option(
    "--fetch",
    type=click.Choice(get_args(Fetch)),
    default="snapshot",
    show_default=True,
    help="Bytes of models on the Hub: whole files kept in the cache, whole files one after another, or ranges with "
    "nothing on disk.",
)
job_option = click.option(
    "--job",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Keep state and events in FOLDER, where `merging jobs` finds them; wait for the jobs beside it.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def planning_options(command: Command) -> Command:
    """The options that decide a plan: memory, size of output files, device, what may be read.

    The command gets them together, in `planning`: the keywords of `merging.plan`.
    """

    @wraps(command)
    def gathered(**given: Any) -> Any:
        names = ("memory", "shard_bytes", "device", "lenient", "allow_pickle", "allow_unused", "fetch")
        return command(planning={name: given.pop(name) for name in names}, **given)

    options = (
        click.option(
            "--memory", type=size, default="4GiB", show_default=True, metavar="SIZE", help="Bound on buffers."
        ),
        click.option(
            "--shard-size",
            "shard_bytes",
            type=size,
            default="5GB",
            show_default=True,
            metavar="SIZE",
            help="Bound on an output file.",
        ),
        click.option("--device", default="cpu", show_default=True, help="Where to compute: cpu, cuda, cuda:1."),
        click.option("--lenient", is_flag=True, help="List unknown keys of the recipe and go on without them."),
        click.option("--allow-pickle", is_flag=True, help="Read .bin and .pt files, through a restricted unpickler."),
        fetch_option,
        click.option("--allow-unused", is_flag=True, help="Accept inputs and filters that change nothing."),
    )
    for option in reversed(options):
        gathered = option(gathered)
    return gathered
