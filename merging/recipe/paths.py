"""Paths as people write them, looked for in a few folders one after another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from merging.errors import nearest


def existing(text: str, folders: Sequence[Path]) -> Path | None:
    """The first of the folders' files or folders that `text` names; None where there is none."""
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


def nearest_paths(text: str, folders: Sequence[Path]) -> list[str]:
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
