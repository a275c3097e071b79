"""What a push will do, settled before anything is changed: files, card, visibility, what stays, what is in the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from merging.errors import HubError, MergingError, raise_all
from merging.hub.client import Hub, RemoteFile
from merging.hub.download import download
from merging.publish.carded import with_card_files
from merging.publish.destination import Destination, Target, look
from merging.publish.licences import licence_of
from merging.publish.lineage import read_lineage
from merging.publish.manifest import Manifest, manifest
from merging.publish.readme import MERGE, README, is_ours

# A card beyond this was not written to be read.
CARD_BYTES = 4 << 20
# What loaders look for at the top of a repository: a second set of these, and it depends on the loader which is loaded.
_WEIGHT_ENDS = (".safetensors", ".safetensors.index.json")
_WEIGHT_NAMES = (
    "adapter_config.json",
    "adapter_model.bin",
    "flax_model.msgpack",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
)


@dataclass(frozen=True)
class Outlook:
    """A push before it begins.

    manifest    the files, with the card as it will stand
    private     whether others will not see the repository; of an existing one, as it is
    replaced    files of the repository that get this merge's content
    stale       weights of an earlier model there, which this push deletes
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
    """Find out what a push of a finished merge will do, and what the Hub has there now. Changes nothing.

    The folder is judged before the Hub is asked. Raises OutputError, HubError, RecipeError, or Problems with all that
    is in the way.
    """
    found = manifest(folder)
    there = look(hub, target)
    carded = with_card_files(found, target.repository, _text(hub, there, README))
    wanted = {entry.path for entry in carded.entries}
    others = tuple(path for path in there.files if path not in wanted)
    stale = tuple(path for path in others if _is_weights(path))
    raise_all([*_ambiguous(target, () if replace else stale), *_occupied(hub, there, wanted)])
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
        notices=tuple(_notices(carded, target, there)),
    )
    return outlook, there


def _is_weights(path: str) -> bool:
    numbered = path.startswith("pytorch_model-") and path.endswith(".bin")
    return "/" not in path and (path.endswith(_WEIGHT_ENDS) or path in _WEIGHT_NAMES or numbered)


def _ambiguous(target: Target, stale: tuple[str, ...]) -> Iterator[MergingError]:
    if stale:
        yield HubError(
            f"{target} holds weights of another model, and beside these it would be uncertain which are loaded",
            where=", ".join(stale[:10]) + (f" and {len(stale) - 10} more" if len(stale) > 10 else ""),
            must_be="a repository whose weights are all of this merge",
            fix="pass --replace, which deletes exactly these files in the same commit, or publish to another "
            "repository or branch",
        )


def _occupied(hub: Hub, there: Destination, wanted: set[str]) -> Iterator[MergingError]:
    """A MERGE.md that a person wrote, in the place where our card would go."""
    held = _text(hub, there, MERGE) if MERGE in wanted else None
    if held is not None and held.strip() and not is_ours(held):
        yield HubError(
            f"{MERGE} of the repository was not written by merging, and would be overwritten",
            fix=f"rename it there; the card goes to {MERGE} because {README} is somebody's own",
        )


def _text(hub: Hub, there: Destination, path: str) -> str | None:
    """A text of the repository as it is now; None where there is none. Raises HubError."""
    file: RemoteFile | None = there.files.get(path)
    if file is None or there.pinned is None:
        return None
    try:
        if file.size <= CARD_BYTES:
            return download(hub, there.pinned, path).read_bytes().decode()
    except UnicodeDecodeError:
        pass
    raise HubError(
        f"{path} of {there.pinned} cannot be read",
        must_be=f"UTF-8 text of at most {CARD_BYTES:,} bytes",
        fix="mend or remove it there: nothing is written over a text that cannot be understood",
    )


def _notices(found: Manifest, target: Target, there: Destination) -> Iterator[str]:
    lineage = read_lineage(found.record)
    yield from licence_of(lineage.parents, target.repository).sentences
    if target.repository in {parent.repository for parent in lineage.parents}:
        yield f"{target.repository} is itself a source of this merge."
    if there.pinned and there.pinned.private != target.private and target.private:
        yield f"{target.repository} is public, and stays so."
    if found.private_paths:
        yield f"merging.json, which is published, tells paths of this machine: {', '.join(found.private_paths[:3])}."
