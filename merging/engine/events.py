"""What a run tells those who watch it; the command line's bar and the workbench draw the same events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class RunStarted:
    """Before the first byte: tensors and bytes to read and to write, and how much an earlier run has left to keep."""

    tensors: int
    read_bytes: int
    written_bytes: int
    kept_tensors: int = 0
    kept_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PassStarted:
    """One walk over the tensors: "measure", "merge" or "finish"."""

    kind: str
    tensors: int


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes read and written since the last such event."""

    read_bytes: int
    written_bytes: int


@dataclass(frozen=True, slots=True)
class TensorDone:
    """An output tensor is complete and in the journal; `seconds` is the work of all workers on it."""

    name: str
    nbytes: int
    seconds: float
    non_finite: int


@dataclass(frozen=True, slots=True)
class Delivering:
    """Weights go to `place` while they are made, in so many bytes; `way` is "streamed", or "shards" by way of the disk.

    `kept_bytes` have arrived in an earlier run.
    """

    place: str
    way: str
    nbytes: int
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class Delivered:
    """A weight file has arrived where it was sent; nobody sees it before `Sealed`."""

    path: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the user should know that does not stop the merge."""

    text: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """The output is whole: its files, and the wall seconds of this run; `published` says where it went."""

    files: tuple[Path, ...]
    seconds: float
    published: Mapping[str, Any] | None = None


Event = RunStarted | PassStarted | Moved | TensorDone | Delivering | Delivered | Warned | Sealed
