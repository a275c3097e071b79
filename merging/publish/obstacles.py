"""What is in the way of a publication at its destination, and what the one who publishes should know before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from merging.engine.folder import RECORD
from merging.errors import HubError, MergingError
from merging.hub.client import Hub, RemoteFile
from merging.hub.download import download
from merging.publish.destination import Destination, Target
from merging.publish.licences import licence_of
from merging.publish.lineage import read_lineage
from merging.publish.readme import MERGE, README, is_ours
from merging.store.record import RECORD as STORE_RECORD

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
_SHOWN = 10


def stale_weights(there: Destination, wanted: Iterable[str]) -> tuple[str, ...]:
    """Weights of another model in the repository: those that are not among the files wanted."""
    ours = set(wanted)
    return tuple(path for path in there.files if path not in ours and _is_weights(path))


def stale_records(there: Destination, wanted: Iterable[str], stale: tuple[str, ...]) -> tuple[str, ...]:
    """Our records of those weights, which would say of the repository what it no longer is."""
    ours = set(wanted)
    return tuple(path for path in (RECORD, STORE_RECORD) if stale and path in there.files and path not in ours)


def _is_weights(path: str) -> bool:
    numbered = path.startswith("pytorch_model-") and path.endswith(".bin")
    return "/" not in path and (path.endswith(_WEIGHT_ENDS) or path in _WEIGHT_NAMES or numbered)


def ambiguous(target: Target, stale: tuple[str, ...], fix: str) -> Iterator[MergingError]:
    """Weights of another model, of which a loader might take some."""
    if stale:
        more = f" and {len(stale) - _SHOWN} more" if len(stale) > _SHOWN else ""
        yield HubError(
            f"{target} holds weights of another model, and beside these it would be uncertain which are loaded",
            where=", ".join(stale[:_SHOWN]) + more,
            must_be="a repository whose weights are all of this merge",
            fix=f"{fix}, or publish to another repository or branch",
        )


def occupied(hub: Hub, there: Destination, wanted: Iterable[str]) -> Iterator[MergingError]:
    """A MERGE.md that a person wrote, in the place where our card would go."""
    held = text_there(hub, there, MERGE) if MERGE in wanted else None
    if held is not None and held.strip() and not is_ours(held):
        yield HubError(
            f"{MERGE} of the repository was not written by merging, and would be overwritten",
            fix=f"rename it there; the card goes to {MERGE} because {README} is somebody's own",
        )


def text_there(hub: Hub, there: Destination, path: str) -> str | None:
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


def notices(record: Mapping[str, Any], target: Target, there: Destination) -> Iterator[str]:
    """Licences, gated and private sources; a source that is the target; a target that others see."""
    parents = read_lineage(record).parents
    yield from licence_of(parents, target.repository).sentences
    if target.repository in {parent.repository for parent in parents}:
        yield f"{target.repository} is itself a source of what is published."
    if there.pinned and not there.pinned.private and target.private:
        yield f"{target.repository} is public, and stays so."
