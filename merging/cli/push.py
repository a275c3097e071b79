"""`merging push`: put a finished merge or a store of tasks on the Hub."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merging.cli.options import job_option, json_option, quiet_option
from merging.cli.text import printable
from merging.cli.worker import told_to, working

if TYPE_CHECKING:
    from merging.publish.outlook import Outlook
    from merging.publish.push import Sending

# Names of one kind that are shown.
SHOWN = 12


@click.command()
@click.argument("out", metavar="OUT", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("repository", metavar="OWNER/NAME[@BRANCH]")
@click.option("--branch", metavar="B", help="Commit to this branch, made from main if it is missing.")
@click.option("--pr", "pull_request", is_flag=True, help="Open a pull request instead of changing main.")
@click.option("--public", is_flag=True, help="Make a new repository public; one that is there stays as it is.")
@click.option("--parent", metavar="COMMIT", help="Refuse unless the branch is at this commit.")
@click.option("--replace", is_flag=True, help="Delete weights of another model that the repository holds.")
@click.option("--message", "-m", metavar="TEXT", help="What the commit is called.")
@click.option("--dry-run", is_flag=True, help="Show files, sizes and the card; change nothing.")
@json_option
@quiet_option
@job_option
@click.pass_context
def push(
    ctx: click.Context,
    /,
    out: Path,
    repository: str,
    public: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    job: Path | None,
    **given: Any,
) -> None:
    """Publish the merge in OUT on the Hub: weights, config, tokenizer, record and a model card, in one commit.

    A store that `merging compress` made is published in the same way if its base model is on the Hub; its tasks are
    then read as store:OWNER/NAME#task.

    A new repository is private. Only files of the merge are sent, and no README that a person wrote is overwritten.
    What the Hub has already is not sent again, so an interrupted push is simply run again. When this ends without an
    error, every file of the commit has been compared with what was sent.

    \b
    Examples:
      merging push merged/ ada/my-merge --dry-run
      merging push merged/ ada/my-merge
      merging push tasks/ ada/my-tasks
      merging push merged/ team/model --pr --message "Merge of math and code"
    """
    from merging.publish.push import push as publish

    files = _Files(quiet or as_json, dry_run)
    show = partial(_draw, files, dry_run=dry_run, as_json=as_json, quiet=quiet)
    wish = partial(publish, out, repository, private=not public, dry_run=dry_run, **given)
    if job is None or dry_run:
        published = wish(watch=show)
    else:
        with working(ctx, job, "push", "", out, to=repository) as worker:
            published = wish(watch=told_to(worker, show))
            worker.published(asdict(published))
    files.end(published.commit)
    if not dry_run:
        click.echo(json.dumps(asdict(published)) if as_json else published.pull_request or published.url)


def _draw(files: _Files, event: Outlook | Sending, *, dry_run: bool, as_json: bool, quiet: bool) -> None:
    from merging.publish.outlook import Outlook

    if not isinstance(event, Outlook):
        files.draw(event)
        return
    files.parent = event.parent
    if as_json and dry_run:
        click.echo(json.dumps(_as_data(event), indent=2))
    elif not as_json and (dry_run or not quiet):
        _show(event, to_stderr=not dry_run, with_card=dry_run)


def _show(outlook: Outlook, *, to_stderr: bool, with_card: bool) -> None:
    """The whole push, before it begins."""
    from merging.planning.explain import readable

    def say(text: str) -> None:
        click.echo(printable(text), err=to_stderr)

    visibility = "private" if outlook.private else "public"
    state = f"a new repository, {visibility}" if outlook.is_new else f"{visibility}, and stays so"
    say(f"{outlook.target}: {state}; as {outlook.account}")
    if outlook.parent:
        say(f"after commit {outlook.parent[:12]}")
    entries = outlook.manifest.entries
    say(f"{len(entries)} files, {readable(outlook.manifest.nbytes)}:")
    width = max(len(entry.path) for entry in entries)
    for entry in entries:
        replaces = "  replaces what is there" if entry.path in outlook.replaced else ""
        say(f"  {entry.path:<{width}}  {readable(entry.size):>9}{replaces}")
    for title, names in (
        ("deleted in the repository", outlook.stale),
        ("left as they are in the repository", outlook.kept),
        (f"not published of {outlook.manifest.folder}", outlook.manifest.left_out),
    ):
        if names:
            say(f"{title}: {_shortened(names)}")
    for notice in outlook.notices:
        say(f"note: {notice}")
    if with_card:
        say(f"\nThe card:\n\n{outlook.card}")


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _as_data(outlook: Outlook) -> dict[str, Any]:
    return {
        "repository": outlook.target.repository,
        "branch": outlook.target.branch,
        "pull_request": outlook.target.pull_request,
        "account": outlook.account,
        "new": outlook.is_new,
        "private": outlook.private,
        "parent": outlook.parent,
        "files": [{"path": entry.path, "size": entry.size} for entry in outlook.manifest.entries],
        "replaced": outlook.replaced,
        "deleted": outlook.stale,
        "kept": outlook.kept,
        "left_out": outlook.manifest.left_out,
        "notices": outlook.notices,
        "card": outlook.card,
    }


class _Files:
    """Large files as they go: a line for each when it is through, and on a terminal how far it is."""

    def __init__(self, quiet: bool, is_dry: bool):
        self.parent: str | None = None
        self._quiet = quiet
        self._is_dry = is_dry
        self._is_terminal = sys.stderr.isatty()
        self._through: set[str] = set()

    def draw(self, event: Sending) -> None:
        """Show one step."""
        from merging.planning.explain import readable

        if self._quiet or event.path in self._through:
            return
        path = printable(event.path)
        if event.done == event.size:
            self._through.add(event.path)
            said = "is there already" if event.held else "sent"
            click.echo(f"{self._cleared()}{path}: {readable(event.size)} {said}", err=True)
        elif self._is_terminal:
            share = f"{readable(event.done)} of {readable(event.size)}"
            click.echo(f"{self._cleared()}{path}: {share}", err=True, nl=False)

    def end(self, commit: str) -> None:
        """Leave a clean line, and say where nothing had to be committed."""
        said = "everything is there already, and nothing was committed\n" if commit == self.parent else ""
        if not self._quiet and not self._is_dry:
            click.echo(self._cleared() + said, err=True, nl=False)

    def _cleared(self) -> str:
        return "\r\x1b[K" if self._is_terminal and not self._quiet else ""
