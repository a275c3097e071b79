"""A finished merge or store put on the Hub: file after file, one commit of all, each compared with what was sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from merging.errors import MergingError, OutputError, Problems
from merging.hub.client import Hub
from merging.hub.together import done_together
from merging.publish.outlook import Outlook, prepare
from merging.publish.readme import README
from merging.publish.recorded import Entry
from merging.publish.upload import Publication, Published, Sent, Target

# Larger files are sent by themselves, smaller ones within the commit.
SMALL_BYTES = 4 << 20
# Files sent at the same time; each takes about 150 MB of memory on its way through Xet.
TOGETHER = 4


@dataclass(frozen=True, slots=True)
class Sending:
    """A file on its way: `done` of its `size` bytes are at the Hub; `held` where it had them before."""

    path: str
    done: int
    size: int
    held: bool = False


Watch = Callable[[Outlook | Sending], None]


def push(
    folder: str | PathLike[str],
    repository: str,
    *,
    branch: str | None = None,
    pull_request: bool = False,
    private: bool = True,
    parent: str | None = None,
    replace: bool = False,
    message: str | None = None,
    dry_run: bool = False,
    watch: Watch | None = None,
    hub: Hub | None = None,
) -> Published:
    """Publish a finished merge, or a store of tasks whose base model is on the Hub, as one commit to `owner/name`.

    `owner/name@branch` names a branch. Returns what the Hub has then.

    A repository that is not there is made, `private` or not; one that is there keeps its visibility. Only the files of
    the merge are sent, with a card; nothing that a person wrote is overwritten, and files that do not belong to the
    merge stay, but for weights of another model, which are deleted if `replace` says so and refused otherwise. A large
    file that the Hub holds already is not sent again. The commit is made only if the branch is still where it was at
    the beginning, or at `parent`, and it is compared with what was sent before this returns.

    `watch` first gets an `Outlook` of all that will happen, then a `Sending` as files go, from several threads. With
    `dry_run` that is all, and the commit that is returned is the one that is there, or "". `hub` is by default the
    environment's.

    Raises OutputError, HubError, RecipeError, or Problems with all that is in the way; nothing is visible then, unless
    the error says that the commit was made.
    """
    hub = hub or Hub.from_environment()
    target = Target.of(repository, branch, pull_request=pull_request, private=private, parent=parent)
    outlook, there = prepare(hub, Path(folder), target, replace=replace)
    if watch:
        watch(outlook)
    if dry_run:
        return Published(target.repository, outlook.parent or "", f"{hub.endpoint}/{target.repository}")
    publication = Publication.open(hub, target, there)
    try:
        return _published(publication, outlook, message or _message(outlook), watch)
    except MergingError as error:
        raise _told(error, publication) from None


def _published(publication: Publication, outlook: Outlook, message: str, watch: Watch | None) -> Published:
    entries = outlook.manifest.entries
    card = next((entry.content for entry in entries if entry.path == README), None)
    if card is not None:
        publication.check_card(card)
    large = [entry for entry in entries if entry.local and entry.size > _limit(entry)]
    small = {entry.path: _content(entry) for entry in entries if entry not in large}
    sent = done_together([partial(_sent, publication, entry, watch) for entry in large], TOGETHER)
    published = publication.commit(sent, small, message, delete=outlook.stale)
    publication.verify(published, {**{each.path: each for each in sent}, **small}, gone=outlook.stale)
    return published


def _told(error: MergingError, publication: Publication) -> MergingError:
    """The error, and that a repository was made where one was."""
    if not publication.created or isinstance(error, Problems):
        return error
    made = f"{publication.target.repository} has been made and stays"
    fix = f"{error.fix} ({made})" if error.fix else f"run the same command again; {made}"
    return type(error)(error.what, where=error.where, must_be=error.must_be, fix=fix)


def _limit(entry: Entry) -> int:
    """Weights are never part of a commit's own text."""
    return 0 if entry.path.endswith(".safetensors") else SMALL_BYTES


def _content(entry: Entry) -> bytes:
    if entry.content is not None:
        return entry.content
    assert entry.local is not None
    content = entry.local.read_bytes()
    if len(content) != entry.size:
        raise OutputError(f"{entry.local} has changed since it was looked at", fix="run the same command again")
    return content


def _sent(publication: Publication, entry: Entry, watch: Watch | None) -> Sent:
    """One large file at the Hub; not sent where the Hub holds it already."""
    assert entry.local is not None
    # A repository that was made just now holds nothing, and hashing takes its time.
    if not publication.created:
        held = Sent(entry.path, entry.size, entry.sha256)
        if publication.holds(held):
            _tell(watch, entry, True, entry.size)
            return held
    _tell(watch, entry, False, 0)
    sent = publication.send(entry.path, entry.local, partial(_tell, watch, entry, False))
    if sent.size != entry.size or (not publication.created and sent.sha256 != entry.sha256):
        raise OutputError(f"{entry.local} has changed while it was sent", fix="run the same command again")
    return sent


def _tell(watch: Watch | None, entry: Entry, held: bool, done: int) -> None:
    if watch:
        watch(Sending(entry.path, min(done, entry.size), entry.size, held))


def _message(outlook: Outlook) -> str:
    recipe: dict[str, Any] = outlook.manifest.record.get("recipe") or {}
    method = recipe.get("merge_method", "merging")
    count = len(outlook.manifest.tasks)
    return f"Store of {count} tasks by {method}, with merging" if count else f"Merge by {method}, with merging"
