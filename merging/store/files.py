"""Where the files of a store are: a folder, or whatever else can read a small file and open weights by their index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from merging.checkpoint.folders import listed_weights, read_small
from merging.checkpoint.shards import ShardCheckpoint
from merging.checkpoint.tensors import Checkpoint


class StoreFiles(Protocol):
    """The files of a store. `name` is what a recipe calls it after `store:`, `where` what an error calls it."""

    @property
    def name(self) -> str:
        """What a recipe calls it."""
        ...

    @property
    def where(self) -> str:
        """What an error calls it; a repository with its commit."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        ...

    def content(self, name: str, limit: int) -> bytes:
        """A small file. Raises CheckpointError for one of more than `limit` bytes, HubError."""
        ...

    def open(self, weight_map: Mapping[str, str]) -> Checkpoint:
        """The files that an index, or a part of one, names, as one checkpoint; no other file is looked at.

        Headers are read and compared with the index. Raises CheckpointError, HubError, Problems.
        """
        ...


class LocalFiles:
    """A store in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.name = self.where = str(folder)

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return (self.folder / name).is_file()

    def content(self, name: str, limit: int) -> bytes:
        """A small file. Raises CheckpointError."""
        return read_small(self.folder, name, limit)

    def open(self, weight_map: Mapping[str, str]) -> Checkpoint:
        """The files that an index, or a part of one, names, as one checkpoint. Raises CheckpointError, Problems."""
        return ShardCheckpoint.open(self.name, listed_weights(self.folder, weight_map), self.folder)
