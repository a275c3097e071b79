"""Read one or many safetensors files by ranges of entries; open whatever a path stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from merging.checkpoint.bytes import ByteSource, LocalBytes, entries_memory, sampled_digest
from merging.checkpoint.folders import Weights, find_weights, raise_flat, read_config
from merging.checkpoint.headers import Header, raise_some, read_header, shown
from merging.checkpoint.sidecars import find_sidecars
from merging.checkpoint.tensors import DTYPES, Checkpoint, TensorSpec, torch_dtype
from merging.errors import CheckpointError, MergingError, nearest
from merging.lazy import Tensor, torch

_dtype = cache(torch_dtype)


class Place(NamedTuple):
    """Where a tensor's entries are; `length` in entries, or in bytes for a dtype of less than a byte."""

    source: ByteSource
    first: int
    width: int
    dtype: str
    length: int


def open_checkpoint(path: str | Path, *, allow_pickle: bool = False) -> Checkpoint:
    """The checkpoint in a folder, an index file or a weight file; headers are read and validated, no tensor is.

    Raises CheckpointError, or Problems with all that is wrong with it.
    """
    location, path = str(path), Path(path)
    weights = find_weights(path, allow_pickle=allow_pickle)
    folder = path if path.is_dir() else path.parent
    if weights.pickled:
        from merging.checkpoint.pickles import PickleCheckpoint

        return PickleCheckpoint(location, weights, folder)
    return ShardCheckpoint.open(location, weights, folder)


class ShardCheckpoint:
    """Tensors of safetensors files. Reads are fresh memory and may be made from several threads."""

    def __init__(self, location: str, sources: Sequence[tuple[ByteSource, Header]], folder: Path | None = None):
        self.location = location
        self.config: Mapping[str, Any] = read_config(folder) if folder else {}
        self.metadata: Mapping[str, str] = {key: text for _, header in sources for key, text in header.metadata.items()}
        self.specs: Mapping[str, TensorSpec] = {
            name: spec for _, header in sources for name, spec in header.specs.items()
        }
        self._sources = tuple(sources)
        self._folder = folder
        self._fingerprint = ""
        self._places = {
            name: Place(source, header.starts[name], unit_bytes(spec), spec.dtype, spec.length)
            for source, header in sources
            for name, spec in header.specs.items()
        }

    @classmethod
    def open(cls, location: str, weights: Weights, folder: Path) -> ShardCheckpoint:
        """Read and validate every header and compare them with the index. Raises all problems at once."""
        problems: list[MergingError] = []
        sources: list[tuple[ByteSource, Header]] = []
        for file in weights.files:
            try:
                source = LocalBytes(file)
                sources.append((source, read_header(source, str(file))))
            except MergingError as error:
                problems.append(error)
        raise_flat(problems)
        names = _shard_names(weights)
        raise_some(disagreements(names, [header for _, header in sources], weights.weight_map, location))
        return cls(location, sources, folder)

    @property
    def fingerprint(self) -> str:
        """Digest of all headers, file sizes and samples of every file's and every tensor's contents.

        Samples: 64 of 4 KiB, spread evenly over each file, and 64 bytes from the middle of each tensor.
        """
        if not self._fingerprint:
            digest = sha256()
            for source, header in self._sources:
                digest.update(header.digest)
                middles = (header.starts[name] + spec.nbytes // 2 for name, spec in header.specs.items() if spec.nbytes)
                digest.update(sampled_digest(source, _data_start(header), middles))
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Entries [start, stop) as a fresh tensor; raw bytes [start, stop) for a dtype of less than a byte."""
        source, first, width, dtype, length = self._place(name)
        stop = length if stop is None else stop
        if not 0 <= start <= stop <= length:
            raise IndexError(f"{name!r} has {length} entries; [{start}, {stop}) is not among them")
        entries = torch.empty(stop - start, dtype=_dtype(dtype))
        if stop > start:
            source.read_into(first + start * width, entries_memory(entries))
        return entries

    def advise(self, name: str, start: int = 0, stop: int | None = None) -> None:
        """Say that entries [start, stop) will be read soon."""
        source, first, width, _, length = self._place(name)
        stop = length if stop is None else min(stop, length)
        source.advise(first + start * width, (stop - start) * width)

    def sidecars(self) -> Mapping[str, Path]:
        """Files beside the weights that travel with them."""
        return find_sidecars(self._folder) if self._folder else {}

    def close(self) -> None:
        """Let go of all open files; a later read opens them again."""
        for source, _ in self._sources:
            source.close()

    def _place(self, name: str) -> Place:
        place = self._places.get(name)
        if place is None:
            close = nearest(name, self.specs)
            raise CheckpointError(
                f"there is no tensor {shown(name)}",
                where=self.location,
                fix=f"nearest: {', '.join(close)}" if close else None,
            )
        return place


def unit_bytes(spec: TensorSpec) -> int:
    """Bytes of what a read counts: an entry, or one byte of a dtype that torch cannot hold as entries."""
    return DTYPES[spec.dtype].bits // 8 or 1 if DTYPES[spec.dtype].torch_name else 1


def _data_start(header: Header) -> int:
    return header.size - sum(spec.nbytes for spec in header.specs.values())


def _shard_names(weights: Weights) -> list[str]:
    if weights.weight_map is None:
        return [file.name for file in weights.files]
    # Files of a Hub cache are links to blobs: the index knows them by the names of the links.
    return sorted(set(weights.weight_map.values()))


def disagreements(
    shards: Sequence[str], headers: Sequence[Header], weight_map: Mapping[str, str] | None, where: str
) -> list[MergingError]:
    """What index and headers say differently: every tensor must be in one shard, the one that the index names."""
    holder: dict[str, str] = {}
    faults: list[str] = []
    for shard, header in zip(shards, headers, strict=True):
        for name in header.specs:
            if name in holder:
                faults.append(f"tensor {shown(name)} is in both {holder[name]} and {shard}")
            holder[name] = shard
    if weight_map is not None:
        faults += list(_lies(holder, weight_map))
    return [CheckpointError(fault, where=where) for fault in faults]


def _lies(holder: Mapping[str, str], weight_map: Mapping[str, str]) -> Iterable[str]:
    for name, shard in weight_map.items():
        if name not in holder:
            yield f"the index maps tensor {shown(name)} to {shard}, which does not hold it"
        elif holder[name] != shard:
            yield f"the index maps tensor {shown(name)} to {shard}, but {holder[name]} holds it"
    for name, shard in holder.items():
        if name not in weight_map:
            yield f"shard {shard} holds tensor {shown(name)}, which the index does not mention"
