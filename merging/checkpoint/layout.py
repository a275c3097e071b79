"""Which output file and byte every tensor gets, decided before any is computed.

Files written at these places are byte for byte those of the reference writer: tensors in its order, its header. Where
it orders metadata at random, keys are sorted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from merging.checkpoint.headers import HEADER_LIMIT, METADATA, TENSOR_LIMIT, name_fault, shown
from merging.checkpoint.tensors import TensorSpec
from merging.errors import MergingError, OutputError, raise_all

INDEX_NAME = "model.safetensors.index.json"
# The reference writer's order of dtypes; within one, tensors go by name.
_ORDER = """
    U64 I64 F64 C64 F32 U32 I32 BF16 F16 U16 I16
    F8_E5M2FNUZ F8_E4M3FNUZ F8_E8M0 F8_E4M3 F8_E5M2 I8 U8 F6_E3M2 F6_E2M3 F4 BOOL
"""
_RANK = {dtype: rank for rank, dtype in enumerate(_ORDER.split())}


@dataclass(frozen=True, slots=True)
class FileLayout:
    """One output file: its bytes up to the first tensor, its size, and its tensors in byte order."""

    name: str
    header: bytes
    size: int
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """All output files, and where in them each tensor begins."""

    files: tuple[FileLayout, ...]
    specs: Mapping[str, TensorSpec]
    starts: Mapping[str, tuple[int, int]]

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Names of all tensors in byte order over all files."""
        return tuple(name for file in self.files for name in file.tensors)

    @property
    def nbytes(self) -> int:
        """Size of all files together, without the index."""
        return sum(file.size for file in self.files)

    @property
    def names(self) -> list[str]:
        """Names of all files, and of the index where there is one."""
        return [file.name for file in self.files] + ([INDEX_NAME] if len(self.files) > 1 else [])

    def place(self, name: str) -> tuple[int, int]:
        """Number of the file and first byte of a tensor."""
        return self.starts[name]

    def only(self, number: int) -> Layout:
        """One of the files alone, with its name and its bytes."""
        file = self.files[number]
        starts = {name: (0, self.starts[name][1]) for name in file.tensors}
        return Layout((file,), {name: self.specs[name] for name in file.tensors}, starts)

    def index_json(self) -> bytes | None:
        """The index file, as transformers writes it; None where there is one file."""
        if len(self.files) == 1:
            return None
        weight_map = {name: file.name for file in self.files for name in file.tensors}
        index = {"metadata": {"total_size": sum(spec.nbytes for spec in self.specs.values())}, "weight_map": weight_map}
        return (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()


def lay_out(specs: Iterable[TensorSpec], shard_bytes: int, metadata: Mapping[str, str] | None = None) -> Layout:
    """Fill files of at most `shard_bytes` of tensors, in the order given; a larger tensor gets a file of its own.

    Raises OutputError for names that a checkpoint may not carry.
    """
    given = list(specs)
    _refuse_names(given)
    groups = _pack(given, shard_bytes)
    files: list[FileLayout] = []
    starts: dict[str, tuple[int, int]] = {}
    for i, group in enumerate(groups):
        name = "model.safetensors" if len(groups) == 1 else f"model-{i + 1:05d}-of-{len(groups):05d}.safetensors"
        ordered = sorted(group, key=lambda spec: (_RANK[spec.dtype], spec.name))
        header = serialize_header(ordered, metadata)
        at = len(header)
        for spec in ordered:
            starts[spec.name] = (i, at)
            at += spec.nbytes
        files.append(FileLayout(name, header, at, tuple(spec.name for spec in ordered)))
    return Layout(tuple(files), {spec.name: spec for spec in given}, starts)


def serialize_header(ordered: Sequence[TensorSpec], metadata: Mapping[str, str] | None = None) -> bytes:
    """Length, JSON and padding of a safetensors file whose tensors follow each other in this order."""
    entries: dict[str, object] = {} if metadata is None else {METADATA: dict(sorted(metadata.items()))}
    at = 0
    for spec in ordered:
        entries[spec.name] = {"dtype": spec.dtype, "shape": spec.shape, "data_offsets": (at, at + spec.nbytes)}
        at += spec.nbytes
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_LIMIT:
        raise OutputError(
            f"a header of {len(text):,} bytes could not be read back",
            must_be=f"at most {HEADER_LIMIT:,} bytes",
            fix="ask for smaller shards, or store less metadata",
        )
    return len(text).to_bytes(8, "little") + text


def _pack(specs: Sequence[TensorSpec], shard_bytes: int) -> list[list[TensorSpec]]:
    if shard_bytes < 1:
        raise OutputError(f"shards cannot be of {shard_bytes} bytes", must_be="at least 1 byte")
    groups: list[list[TensorSpec]] = [[]]
    held = 0
    for spec in specs:
        if groups[-1] and (held + spec.nbytes > shard_bytes or len(groups[-1]) >= TENSOR_LIMIT):
            groups.append([])
            held = 0
        groups[-1].append(spec)
        held += spec.nbytes
    return groups


def _refuse_names(specs: Sequence[TensorSpec]) -> None:
    problems: list[MergingError] = [OutputError(fault) for spec in specs if (fault := name_fault(spec.name))]
    seen: set[str] = set()
    for spec in specs:
        if spec.name in seen:
            problems.append(OutputError(f"two output tensors are called {shown(spec.name)}"))
        seen.add(spec.name)
    raise_all(problems)
