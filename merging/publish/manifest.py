"""Which files of a finished merge are published: those that its record names and those that belong to it, no others.

Whatever else lies in the folder stays where it is and is listed, so that nobody has to guess what went out. Of a store
of tasks see merging/publish/stored.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from merging.checkpoint.sidecars import find_sidecars
from merging.engine.folder import LEDGER, RECORD, read_record
from merging.engine.provenance import shareable
from merging.errors import MergingError, OutputError, raise_all
from merging.planning.check import STATE
from merging.publish.card_layers import MARK, PICTURE
from merging.publish.readme import MERGE, README, is_ours
from merging.publish.recorded import Entry, as_output, find_entry, read_ledger, recorded_weights

CONFIG = "config.json"
PARTIAL = ".partial"
_CARD_BYTES = 8 << 20


@dataclass(frozen=True)
class Manifest:
    """What of a folder is published: weights first, then the files beside them; `left_out` are all others' names.

    `record` is the merge's own; the published one tells no path of this machine. `tasks` are those of a store.
    """

    folder: Path
    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]
    record: Mapping[str, Any] = field(repr=False)
    tasks: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.entries)

    def adding(self, path: str, content: bytes) -> Manifest:
        """The manifest with a file made of `content`, in the place of one of that name: a card, a picture."""
        others = tuple(entry for entry in self.entries if entry.path != path)
        left_out = tuple(name for name in self.left_out if name != path)
        return replace(self, entries=(*others, Entry(path, None, len(content), content)), left_out=left_out)

    def without(self, *paths: str) -> Manifest:
        """The manifest without some files."""
        return replace(self, entries=tuple(entry for entry in self.entries if entry.path not in paths))

    def ledger(self) -> list[dict[str, Any]]:
        """What every tensor got, in the order of the record."""
        return read_ledger(self.folder)


def manifest(folder: Path | str) -> Manifest:
    """The files of a finished merge that are published: weights and index, config, sidecars, record, ledger, our card.

    Nothing is hashed yet. Raises OutputError, or Problems with all that is wrong: the folder holds no finished merge, a
    file of the record is missing or not as its header says, tensors are not those of the ledger, or a link leads out.
    """
    folder = Path(folder)
    record = read_record(folder)
    require_finished(folder, record)
    assert record is not None
    weights, problems = recorded_weights(folder, record)
    beside, more = files_beside(folder)
    raise_all(problems + more)
    entries = (*weights, *beside)
    left_out = names_left_out(folder, {entry.path for entry in entries})
    told = (json.dumps(shareable(record), indent=2) + "\n").encode()
    return Manifest(folder, entries, left_out, record).adding(RECORD, told)


def require_finished(folder: Path, record: Mapping[str, Any] | None) -> None:
    """Raise OutputError unless the folder looks like what a finished run leaves."""
    problems: list[MergingError] = []
    if not folder.is_dir():
        raise OutputError(f"there is no folder {folder}", must_be="the output of a finished `merging run`")
    unfinished = [path.name for path in sorted(folder.iterdir()) if path.name == STATE or path.name.endswith(PARTIAL)]
    if unfinished:
        problems.append(
            OutputError(
                f"the merge in {folder} is not finished",
                where=", ".join(unfinished[:5]),
                must_be="the output of a finished `merging run`",
                fix="run it again with the same recipe and folder: it goes on where it stopped",
            )
        )
    if not record:
        problems.append(
            OutputError(
                f"{folder} holds no record of a merge",
                must_be=f"a folder with {RECORD}, which every finished `merging run` leaves, or a store of tasks",
                fix="publish the folder that `merging run RECIPE FOLDER` or `merging compress` made",
            )
        )
    raise_all(problems)


def files_beside(folder: Path) -> tuple[list[Entry], list[MergingError]]:
    """Config, sidecars, ledger, and card and picture where they are ours; and what is wrong with them."""
    problems: list[MergingError] = []
    names = [name for name in (CONFIG, LEDGER) if os.path.lexists(folder / name)]
    try:
        names[1:1] = find_sidecars(folder)
    except MergingError as error:
        problems += as_output(error)
    names += [name for name in (README, MERGE, PICTURE) if _is_own(folder / name)]
    entries: list[Entry] = []
    for name in dict.fromkeys(names):
        try:
            entries.append(find_entry(folder, name))
        except MergingError as error:
            problems += as_output(error)
    return entries, problems


def _is_own(path: Path) -> bool:
    """Whether a card or a picture is one that we wrote."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _CARD_BYTES:
        return False
    text = path.read_bytes().decode("utf-8", "replace")
    return MARK in text[:1000] if path.name == PICTURE else is_ours(text)


def names_left_out(folder: Path, published: set[str]) -> tuple[str, ...]:
    """Names of what lies in the folder and is not published; a folder of which nothing is, by its own name."""
    return tuple(_left_out(folder, published))


def _left_out(folder: Path, published: set[str]) -> Iterator[str]:
    opened = {str(PurePosixPath(path).parent) for path in published}
    for each in sorted(folder.iterdir()):
        if each.is_dir() and not each.is_symlink() and each.name in opened:
            inner = sorted(f"{each.name}/{path.name}" for path in each.iterdir())
            yield from (name for name in inner if name not in published)
        elif each.name not in published:
            yield each.name + ("/" if each.is_dir() else "")
