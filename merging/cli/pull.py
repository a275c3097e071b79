"""`merging pull`: fetch a checkpoint, or a store of tasks, from the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from merging.cli.text import printable
from merging.errors import HubError

if TYPE_CHECKING:
    from merging.hub.client import RemoteFile


@click.command()
@click.argument("name", metavar="OWNER/NAME[@REVISION]")
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
def pull(name: str, folder: Path | None) -> None:
    """Fetch the weights, configs and tokenizer of a repository, every large file checked by its SHA-256.

    A store of tasks is fetched whole, and store:FOLDER#task reads a task of it. Of store:OWNER/NAME#TASK only what that
    task needs is fetched; further tasks may follow into the same folder.

    Into FOLDER, or into the Hub's cache without one, where recipes that name the repository find it. Nothing is
    fetched twice: an interrupted pull goes on. Code and pickles are left out.

    \b
    Examples:
      merging pull mistralai/Mistral-7B-v0.1@main models/mistral
      merging pull store:ada/my-tasks#math tasks/
    """
    from merging.hub.checkpoint import RepositoryFiles
    from merging.hub.client import Hub
    from merging.hub.names import parse_hub_name
    from merging.hub.pull import pull as fetch
    from merging.hub.pull import wanted_files
    from merging.planning.explain import readable
    from merging.recipe.stores import files_of_task
    from merging.store.record import STORE

    repository, _, task = name.removeprefix(STORE).partition("#") if name.startswith(STORE) else (name, "", None)
    named = parse_hub_name(repository)
    if named is None:
        must_be = f"owner/name, owner/name@revision, or {STORE}owner/name#task"
        raise HubError(f"{name!r} names no repository on the Hub", must_be=must_be)
    hub = Hub.from_environment()
    pinned = hub.pin(named)
    wanted = wanted_files(pinned)
    if task is not None:
        wanted = files_of_task(RepositoryFiles(hub, pinned, str(named)), task, wanted)
    size = sum(pinned.files[path].size for path in wanted)
    click.echo(f"{pinned}: {readable(size)} in {len(wanted)} files", err=True)

    def told(file: RemoteFile) -> None:
        click.echo(printable(f"  {file.path}: {readable(file.size)}"), err=True)

    click.echo(fetch(hub, pinned, folder, told, wanted))
