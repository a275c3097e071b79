"""What a push will do, settled before anything is changed: files, card, visibility, what stays, what is in the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from merging.errors import raise_all
from merging.hub.client import Hub
from merging.publish.carded import with_card_files
from merging.publish.destination import Destination, Target, look
from merging.publish.manifest import Manifest, manifest
from merging.publish.obstacles import ambiguous, notices, occupied, stale_records, stale_weights, text_there
from merging.publish.readme import MERGE, README
from merging.publish.stored import store_manifest
from merging.store.record import is_store


@dataclass(frozen=True)
class Outlook:
    """A push before it begins.

    manifest    the files, with the card as it will stand
    private     whether others will not see the repository; of an existing one, as it is
    replaced    files of the repository that get this merge's content
    stale       weights of an earlier model there, and their record, which this push deletes
    kept        files of the repository that are left as they are
    notices     what the one who publishes should know: licences, gated and private sources, paths in the record
    """

    target: Target
    account: str
    is_new: bool
    private: bool
    parent: str | None
    manifest: Manifest
    replaced: tuple[str, ...]
    stale: tuple[str, ...]
    kept: tuple[str, ...]
    notices: tuple[str, ...]

    @property
    def card(self) -> str:
        """The card of this push: README.md, or MERGE.md where README.md is somebody's own."""
        texts = {entry.path: entry.content for entry in self.manifest.entries if entry.content is not None}
        return (texts.get(MERGE) or texts.get(README) or b"").decode()


def prepare(hub: Hub, folder: Path, target: Target, *, replace: bool = False) -> tuple[Outlook, Destination]:
    """Find out what a push of a finished merge or store will do, and what the Hub has there now. Changes nothing.

    The folder is judged before the Hub is asked. Raises OutputError, HubError, RecipeError, or Problems with all that
    is in the way.
    """
    found = store_manifest(folder) if is_store(folder) else manifest(folder)
    there = look(hub, target)
    carded = with_card_files(found, target.repository, text_there(hub, there, README))
    wanted = {entry.path for entry in carded.entries}
    others = tuple(path for path in there.files if path not in wanted)
    stale = stale_weights(there, wanted)
    fix = "pass --replace, which deletes exactly these files in the same commit"
    raise_all([*ambiguous(target, () if replace else stale, fix), *occupied(hub, there, wanted)])
    stale += stale_records(there, wanted, stale)
    outlook = Outlook(
        target=target,
        account=there.account,
        is_new=there.pinned is None,
        private=there.pinned.private if there.pinned else target.private,
        parent=there.pinned.commit if there.pinned else None,
        manifest=carded,
        replaced=tuple(sorted(wanted.intersection(there.files))),
        stale=stale,
        kept=tuple(path for path in others if path not in stale),
        notices=tuple(notices(carded.record, target, there)),
    )
    return outlook, there
