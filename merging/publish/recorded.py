"""The weights that a merge's record names, held against their headers, their index and the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from merging.checkpoint.bytes import LocalBytes
from merging.checkpoint.folders import SAFETENSORS, follow
from merging.checkpoint.headers import parse_index, read_header, shard_fault, shown
from merging.engine.folder import LEDGER, RECORD
from merging.errors import MergingError, OutputError, Problems

INDEX = ".safetensors.index.json"
AGAIN = f"merge again from the recipe in {RECORD}"


@dataclass(frozen=True)
class Entry:
    """A file to publish: `path` in the repository, `local` where it lies, or its `content` where it is on no disk."""

    path: str
    local: Path | None
    size: int
    content: bytes | None = field(default=None, repr=False)

    @cached_property
    def sha256(self) -> str:
        """Digest of the whole file in hexadecimal, read once when it is first asked for.

        Raises OutputError where the file is gone or has another size by now.
        """
        if self.content is not None:
            return sha256(self.content).hexdigest()
        assert self.local is not None
        try:
            with self.local.open("rb") as file:
                digest = file_digest(file, "sha256")
                read = file.tell()
        except OSError as error:
            raise OutputError(f"cannot read {self.local}: {error.strerror}") from None
        if read != self.size:
            raise OutputError(f"{self.local} had {self.size:,} bytes and now has {read:,}", fix="publish it again")
        return digest.hexdigest()


def recorded_weights(folder: Path, record: Mapping[str, Any]) -> tuple[list[Entry], list[MergingError]]:
    """The recorded files, each compared with its header or with the others, and what is wrong with them."""
    names = record.get("files")
    problems: list[MergingError] = []
    entries: list[Entry] = []
    tensors: dict[str, str] = {}
    for told in names if isinstance(names, list) else []:
        try:
            name = _plain(told)
            entries.append(find_entry(folder, name))
            tensors |= dict.fromkeys(_tensors(entries[-1]), name)
        except MergingError as error:
            problems += as_output(error)
    if not any(entry.path.endswith(SAFETENSORS) for entry in entries) and not problems:
        problems.append(OutputError(f"the record of {folder} names no weights", fix=AGAIN))
    # What one broken file lacks is no news about the others.
    return entries, problems or [*_indexed(entries, tensors), *_ledgered(folder, tensors)]


def _plain(name: Any) -> str:
    """A recorded file name that may be joined to the folder. Raises OutputError: a record can be written by anyone."""
    text = name if isinstance(name, str) else ""
    suffix = INDEX if text.endswith(INDEX) else SAFETENSORS
    if shard_fault(text, suffix) or text in (SAFETENSORS, INDEX):
        raise OutputError(
            f"the record names {shown(name)} as a file of the merge",
            must_be=f"a plain *{SAFETENSORS} or *{INDEX}",
        )
    return text


def find_entry(folder: Path, name: str) -> Entry:
    """An existing file of the folder. Raises OutputError or CheckpointError."""
    path = follow(folder, name)
    if not path.is_file():
        raise OutputError(
            f"{name} is missing",
            where=str(folder),
            must_be="a file, as the record says",
            fix=AGAIN,
        )
    return Entry(name, path, path.stat().st_size)


def _tensors(entry: Entry) -> tuple[str, ...]:
    """The tensors of a weight file whose header fits its size. Raises CheckpointError or Problems."""
    assert entry.local is not None
    if not entry.path.endswith(SAFETENSORS):
        return ()
    source = LocalBytes(entry.local)
    try:
        return tuple(read_header(source, str(entry.local)).specs)
    finally:
        source.close()


def _indexed(entries: Sequence[Entry], tensors: Mapping[str, str]) -> Iterator[MergingError]:
    """What the index says otherwise than the weights, and shards without an index."""
    indices = [entry for entry in entries if entry.path.endswith(INDEX)]
    if not indices and len(entries) > 1:
        yield OutputError(f"the record names {len(entries)} shards and no index", fix=AGAIN)
    for entry in indices:
        assert entry.local is not None
        try:
            told = parse_index(entry.local.read_bytes(), str(entry.local)).weight_map
        except MergingError as error:
            yield from as_output(error)
            continue
        if dict(told) != dict(tensors):
            yield OutputError(
                f"{entry.path} does not describe the weights beside it",
                where=str(entry.local),
                fix=AGAIN,
            )


def _ledgered(folder: Path, tensors: Mapping[str, str]) -> Iterator[MergingError]:
    """Tensors that only the ledger or only the weights have."""
    try:
        recorded = {str(row["tensor"]) for row in read_ledger(folder)}
    except (OSError, ValueError, TypeError, KeyError):
        yield OutputError(
            f"{LEDGER} is missing or cannot be read",
            where=str(folder),
            must_be="a line of JSON for every tensor",
            fix=AGAIN,
        )
        return
    other = sorted(recorded.symmetric_difference(tensors))
    if other:
        yield OutputError(
            f"{len(other)} tensors are in the weights or in the ledger only",
            where=", ".join(shown(name) for name in other[:5]),
            must_be="the weights that the record is about",
            fix=AGAIN,
        )


def read_ledger(folder: Path) -> list[dict[str, Any]]:
    """The lines of a folder's ledger."""
    lines = (folder / LEDGER).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def as_output(error: MergingError) -> list[MergingError]:
    """The same problems as OutputError: here it is the output that is wrong."""
    parts = error.problems if isinstance(error, Problems) else (error,)
    return [OutputError(part.what, where=part.where, must_be=part.must_be, fix=part.fix) for part in parts]
