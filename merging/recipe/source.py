"""What a recipe calls a model, and opening it.

A source is a path: a folder, a .safetensors file or an index file; or `base+adapter`, a LoRA adapter on its base. A
path is looked for first in the recipe's folder, then in the current one. What exists on disk under the whole text is
taken as it is, so paths with a "+" or "@" of their own work. `name@revision` and Hub ids are known and refused for now.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from merging.checkpoint.tensors import Checkpoint
from merging.errors import CheckpointError, MergingError, nearest, raise_all

_HUB_ID = re.compile(r"(?P<owner>[A-Za-z0-9][\w.-]*)/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint on disk, and the adapter that is applied to it, if any."""

    path: Path
    adapter: Path | None = None


def open_source(
    text: str, *, relative_to: Path | None = None, allow_pickle: bool = False, where: str | None = None
) -> Checkpoint:
    """Open what `text` names as a checkpoint; reads headers only. `relative_to` is the recipe's folder.

    `where` is the place in the recipe. Raises CheckpointError, or Problems with all that is wrong.
    """
    from merging.checkpoint.shards import open_checkpoint

    source = find_source(text, relative_to=relative_to, where=where)
    base = open_checkpoint(source.path, allow_pickle=allow_pickle)
    if source.adapter is None:
        return base
    from merging.checkpoint.adapters import AdaptedCheckpoint, open_adapter

    return AdaptedCheckpoint(base, open_adapter(source.adapter, allow_pickle=allow_pickle))


def find_source(text: str, *, relative_to: Path | None = None, where: str | None = None) -> Source:
    """The files that `text` names. Raises CheckpointError with the nearest names that exist."""
    folders = [Path()] if relative_to is None else [relative_to, Path()]
    whole = _existing(text, folders)
    if whole is not None:
        return Source(whole)
    for plus in re.finditer(r"\+", text):
        base, adapter = _existing(text[: plus.start()], folders), _existing(text[plus.end() :], folders)
        if base is not None and adapter is not None:
            return Source(base, adapter)
    parts = text.split("+")
    if len(parts) > 2:
        must_be = "a path, or `base+adapter`"
        raise CheckpointError(f"{text!r} names more than one adapter", where=where, must_be=must_be)
    raise_all([_refusal(part, folders, where) for part in parts if _existing(part, folders) is None])
    raise AssertionError("a source whose parts all exist was found above")


def _existing(text: str, folders: Sequence[Path]) -> Path | None:
    return next((folder / _at_home(text) for folder in folders if text and _exists(folder / _at_home(text))), None)


def _at_home(text: str) -> Path:
    """The path with a leading `~` expanded where there is such a home."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for the file system
        return False


def _refusal(part: str, folders: Sequence[Path], where: str | None) -> MergingError:
    path, _, revision = part.partition("@")
    hub = _HUB_ID.fullmatch(path)
    close = _nearest_paths(path, folders)
    if not part:
        must_be = "a folder, a .safetensors file, or `base+adapter`"
        return CheckpointError("a model has an empty name", where=where, must_be=must_be)
    if "@" in revision:
        return CheckpointError(f"{part!r} names more than one revision", where=where, must_be="`path@revision`")
    if revision and _existing(path, folders) is not None:
        return CheckpointError(
            f"{path} is a local folder or file, and those have no revisions", where=where, fix=f"write {path!r}"
        )
    if hub and _existing(hub["owner"], folders) is None:
        return CheckpointError(
            f"{part} is neither a file nor a folder here; pulling from the Hub comes later",
            where=where,
            must_be="a folder or file on this machine",
            fix="download it and give the folder" + (f"; nearest here: {', '.join(close)}" if close else ""),
        )
    return CheckpointError(
        f"there is no file or folder {path}",
        where=where,
        must_be=f"found in {' or '.join(str(folder.absolute()) for folder in dict.fromkeys(folders))}",
        fix="nearest: " + ", ".join(close) if close else None,
    )


def _nearest_paths(text: str, folders: Sequence[Path]) -> list[str]:
    """Existing paths spelled like `text`, looked for where its first missing component would be."""
    found: list[str] = []
    for folder in folders:
        known = Path()
        missing = None
        for component in _at_home(text).parts:
            missing = component
            if not _exists(folder / known / component):
                break
            known /= component
        if missing is not None and (folder / known).is_dir():
            found += [
                str(known / name) for name in nearest(missing, sorted(each.name for each in (folder / known).iterdir()))
            ]
    return list(dict.fromkeys(found))
