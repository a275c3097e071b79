"""Parse and validate safetensors headers and shard indices, before anything is allocated for what they promise.

Stricter than the reference parser in what it lets through silently: repeated keys, control characters in names,
unknown fields, and sizes of headers, names and tensor counts that no model needs. What is accepted here is accepted
by the reference and means the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from math import prod
from reprlib import Repr
from typing import Any
from unicodedata import category

from merging.checkpoint.bytes import ByteSource
from merging.checkpoint.tensors import DTYPES, TensorSpec
from merging.errors import CheckpointError, MergingError, raise_all

HEADER_LIMIT = 25_000_000  # bytes, as on the Hub
INDEX_LIMIT = 50_000_000  # bytes
TENSOR_LIMIT = 250_000  # per file
NAME_LIMIT = 1024  # characters
AXIS_LIMIT = 8
SHARD_LIMIT = 10_000
PROBLEM_LIMIT = 20
METADATA = "__metadata__"
# Objects and lists in an index, and in a header beyond three per tensor: metadata, and brackets within its text.
_OTHER_PIECES = 50_000
_FIELDS = ("dtype", "shape", "data_offsets")
_WHOLE_LIMIT = 1 << 63


@dataclass(frozen=True, slots=True)
class Header:
    """What one safetensors file holds: specs in byte order, first byte of each tensor counted from the file's start."""

    specs: Mapping[str, TensorSpec]
    starts: Mapping[str, int]
    metadata: Mapping[str, str]
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Index:
    """Which shard holds which tensor, as an index file says; not yet compared with the shards."""

    weight_map: Mapping[str, str]


def read_header(source: ByteSource, where: str) -> Header:
    """The validated header of a safetensors file. Raises CheckpointError or Problems."""
    if source.size < 8:
        raise CheckpointError(
            f"a file of {source.size} bytes is no safetensors file", where=where, fix="fetch it again"
        )
    prefix = bytearray(8)
    source.read_into(0, memoryview(prefix))
    length = int.from_bytes(prefix, "little")
    if length > source.size - 8:
        raise CheckpointError(
            f"the header claims {length:,} bytes, the file has {source.size:,}",
            where=where,
            fix="fetch the file again; it is cut short, or no safetensors file",
        )
    if length > HEADER_LIMIT:
        raise CheckpointError(
            f"the header is {length:,} bytes long", where=where, must_be=f"at most {HEADER_LIMIT:,} bytes"
        )
    text = bytearray(length)
    source.read_into(8, memoryview(text))
    return parse_header(bytes(text), source.size, where)


def parse_header(text: bytes, size: int, where: str) -> Header:
    """A header's JSON, checked against the size of its file. Raises CheckpointError or Problems."""
    if not text.startswith(b"{"):
        raise CheckpointError(f"the header begins with {shown(text[:8])}", where=where, must_be="a JSON object: {")
    entries = strict_json(text, where, 3 * TENSOR_LIMIT + _OTHER_PIECES)
    problems: list[MergingError] = []
    metadata = _metadata(entries.pop(METADATA, {}), where, problems)
    if len(entries) > TENSOR_LIMIT:
        raise CheckpointError(
            f"the header lists {len(entries):,} tensors", where=where, must_be=f"at most {TENSOR_LIMIT:,}"
        )
    placed: list[tuple[TensorSpec, int, int]] = []
    for name, entry in entries.items():
        try:
            placed.append(_entry(name, entry, where))
        except CheckpointError as error:
            problems.append(error.with_traceback(None))
        if len(problems) > PROBLEM_LIMIT:
            break
    raise_some(problems)
    placed.sort(key=lambda each: each[1:])
    first = 8 + len(text)
    raise_some(_uncovered(placed, size - first, where))
    specs = {spec.name: spec for spec, _, _ in placed}
    starts = {spec.name: first + begin for spec, begin, _ in placed}
    return Header(specs, starts, metadata, size, sha256(text).digest())


def parse_index(text: bytes, where: str, suffix: str = ".safetensors") -> Index:
    """An index file's JSON; every shard has a plain file name with the suffix. Raises CheckpointError or Problems."""
    content = strict_json(text, where, _OTHER_PIECES)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError("the index has no weight_map", where=where, must_be="an object: tensor name to file name")
    shards: dict[Any, None] = {}
    faults: list[str] = []
    for name, shard in weight_map.items():
        if fault := name_fault(name):
            faults.append(fault)
        if isinstance(shard, str):
            shards[shard] = None
        else:
            faults.append(f"tensor {shown(name)} is mapped to {shown(shard)}, which is no file name")
    faults += [fault for shard in shards if (fault := shard_fault(shard, suffix))]
    if len(shards) > SHARD_LIMIT:
        faults.append(f"the index names {len(shards):,} shards, at most {SHARD_LIMIT:,} are allowed")
    raise_some([CheckpointError(fault, where=where) for fault in faults])
    return Index(weight_map)


def name_fault(name: str) -> str | None:
    """What is wrong with a tensor's name; None when it may be used."""
    if not name or name == METADATA:
        return f"a tensor is called {shown(name)}"
    if len(name) > NAME_LIMIT:
        return f"a tensor's name has {len(name):,} characters, at most {NAME_LIMIT} are allowed: {shown(name)}"
    # isprintable is the fast test; what it refuses beyond controls, line ends and surrogates is allowed.
    if not name.isprintable() and any(category(x) in ("Cc", "Zl", "Zp", "Cs") for x in name):
        return f"tensor name {shown(name)} contains a control character"
    return None


def shard_fault(name: str, suffix: str) -> str | None:
    """What is wrong with a shard's file name; None when it may be joined to a folder."""
    if any(x in "/\\:" or category(x) == "Cc" for x in name):
        return f"shard {shown(name)} leads out of the folder"
    if not name.endswith(suffix) or len(name) > 255 or name.startswith("."):
        return f"shard {shown(name)} is no plain file name ending in {suffix}"
    return None


_shortened = Repr()
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 100


def shown(value: object) -> str:
    """A value from an untrusted file, escaped and cut to fit a message."""
    return _shortened.repr(value)[:200]


def raise_some(problems: Sequence[MergingError]) -> None:
    """Raise nothing, the one problem, or all together; no more than PROBLEM_LIMIT are listed."""
    more = [CheckpointError("and more problems like these")] if len(problems) > PROBLEM_LIMIT else []
    raise_all([*problems[:PROBLEM_LIMIT], *more])


def strict_json(text: bytes, where: str, most: int) -> Any:
    """JSON in UTF-8 of at most so many objects and lists, without repeated keys, NaN or bottomless nesting.

    Counted before parsing: a list of two bytes costs 64 in memory. Raises CheckpointError or Problems.
    """
    pieces = text.count(b"{") + text.count(b"[")
    if pieces > most:
        raise CheckpointError(f"the JSON has {pieces:,} objects and lists", where=where, must_be=f"at most {most:,}")
    repeated: dict[str, None] = {}

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            keys = sorted(key for key, _ in items)
            repeated.update((key, None) for key, after in pairwise(keys) if key == after)
        return found

    try:
        content = json.loads(text.decode(), object_pairs_hook=pairs, parse_int=_whole, parse_constant=_refuse)
    except RecursionError:
        raise CheckpointError("the JSON is nested too deeply", where=where) from None
    except ValueError as error:
        raise CheckpointError(
            f"this is no JSON: {str(error)[:200]}", where=where, must_be="JSON in UTF-8", fix="fetch the file again"
        ) from None
    raise_some([CheckpointError(f"key {shown(key)} occurs twice", where=where) for key in repeated])
    return content


def _whole(text: str) -> int | float:
    # JSON's -0 is the float -0.0 to the reference parser, so it must not pass for a whole number here.
    return -0.0 if text == "-0" else int(text)


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _metadata(value: Any, where: str, problems: list[MergingError]) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        problems.append(
            CheckpointError(f"{METADATA} is {shown(value)}", where=where, must_be="an object whose values are strings")
        )
        return {}
    if any("\ud800" <= x <= "\udfff" for pair in value.items() for text in pair for x in text):
        problems.append(CheckpointError(f"{METADATA} contains half a surrogate pair", where=where))
    return value


def _entry(name: str, entry: Any, where: str) -> tuple[TensorSpec, int, int]:
    """Spec, first byte and end of one tensor. Raises CheckpointError."""
    if fault := name_fault(name):
        raise CheckpointError(fault, where=where)
    if not isinstance(entry, dict) or set(entry) != set(_FIELDS):
        raise CheckpointError(
            f"tensor {shown(name)} is described by {shown(entry)}",
            where=where,
            must_be="an object of " + ", ".join(_FIELDS),
        )
    dtype, shape, offsets = (entry[field] for field in _FIELDS)
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError(
            f"tensor {shown(name)} has the unknown dtype {shown(dtype)}",
            where=where,
            must_be="one of " + ", ".join(DTYPES),
        )
    if not _wholes(shape, AXIS_LIMIT):
        raise CheckpointError(
            f"tensor {shown(name)} has shape {shown(shape)}", where=where, must_be=f"at most {AXIS_LIMIT} whole numbers"
        )
    if not _wholes(offsets, 2) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(
            f"tensor {shown(name)} has data_offsets {shown(offsets)}",
            where=where,
            must_be="two whole numbers, the smaller first",
        )
    bits = DTYPES[dtype].bits
    if prod(size or 1 for size in shape) * bits >= _WHOLE_LIMIT:
        raise CheckpointError(
            f"tensor {shown(name)} of shape {shown(shape)} has more entries than can be counted", where=where
        )
    spec = TensorSpec(name, tuple(shape), dtype)
    if spec.entries * bits != 8 * (offsets[1] - offsets[0]):
        raise CheckpointError(
            f"tensor {shown(name)}, {dtype} of shape {shown(shape)}, is given {offsets[1] - offsets[0]:,} bytes",
            where=where,
            must_be=f"{spec.entries:,} entries of {bits} bits",
        )
    return spec, offsets[0], offsets[1]


def _wholes(values: Any, at_most: int) -> bool:
    few = isinstance(values, list) and len(values) <= at_most
    return few and all(type(x) is int and 0 <= x < _WHOLE_LIMIT for x in values)


def _uncovered(placed: Sequence[tuple[TensorSpec, int, int]], nbytes: int, where: str) -> list[MergingError]:
    """The tensors, in byte order, must cover the file's data exactly: no overlap, no hole, nothing after the last."""
    faults: list[MergingError] = []
    at, before = 0, ""
    for spec, begin, end in placed:
        if begin < at:
            faults.append(CheckpointError(f"tensors {shown(before)} and {shown(spec.name)} overlap", where=where))
        elif begin > at:
            gap = f"{begin - at:,} bytes before tensor {shown(spec.name)} belong to no tensor"
            faults.append(CheckpointError(gap, where=where))
        if end >= at:
            at, before = end, spec.name
        if len(faults) > PROBLEM_LIMIT:
            return faults
    if at > nbytes:
        short = f"the file is cut short: {at - nbytes:,} of {at:,} bytes of tensors are missing"
        faults.append(CheckpointError(short, where=where, fix="fetch the file again"))
    elif at < nbytes:
        faults.append(CheckpointError(f"{nbytes - at:,} bytes after the last tensor belong to no tensor", where=where))
    return faults
