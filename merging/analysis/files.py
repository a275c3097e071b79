"""A diagnosis as one safetensors file: its tensors, and as bytes in JSON what they are about."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from uuid import uuid4

from merging.analysis.diagnosis import Diagnosis, Placed
from merging.analysis.measures import Sums
from merging.checkpoint.bytes import LocalBytes, entries_memory
from merging.checkpoint.headers import METADATA, read_header
from merging.checkpoint.shards import ShardCheckpoint
from merging.checkpoint.tensors import dtype_name
from merging.errors import CheckpointError, MergingError, OutputError
from merging.lazy import Tensor, torch

FORMAT = "merging diagnosis"
# The JSON is a tensor of bytes: metadata of a header is bounded, names of tensors need not be few.
ABOUT = "about"


def write_diagnosis(diagnosis: Diagnosis, path: Path) -> None:
    """Write the file under another name and rename it, so that no reader sees half of it.

    Raises OutputError where it cannot be written.
    """
    tensors = {field.name: getattr(diagnosis, field.name).contiguous() for field in fields(Sums)}
    text = json.dumps(_about(diagnosis)).encode()
    tensors[ABOUT] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    partial = path.with_name(f"{path.name}.{uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            file.write(_header(tensors))
            for tensor in tensors.values():
                file.write(entries_memory(tensor))
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"cannot write the diagnosis: {os.strerror(error.errno or 0)}", where=str(path)) from None


def read_diagnosis(path: Path) -> Diagnosis:
    """The diagnosis in a file. Raises CheckpointError for what is none."""
    try:
        source = LocalBytes(path)
        stored = ShardCheckpoint(str(path), [(source, read_header(source, str(path)))])
        if stored.metadata.get("format") != FORMAT:
            raise ValueError("another format")
        about = json.loads(bytes(stored.read(ABOUT).tolist()))
        tensors = {field.name: stored.read(field.name).view(stored.specs[field.name].shape) for field in fields(Sums)}
        return _checked(about, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, RecursionError, MergingError) as error:
        raise CheckpointError(
            f"{path} holds no diagnosis: {error}",
            must_be="a file that `Diagnosis.save` wrote",
            fix="diagnose again",
        ) from None


def _about(diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "base": diagnosis.base,
        "models": diagnosis.models,
        "tensors": [asdict(tensor) for tensor in diagnosis.tensors],
        "fingerprint": diagnosis.fingerprint,
        "warnings": diagnosis.warnings,
    }


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    """Length and text of a safetensors header, padded so that the tensors begin at a multiple of eight bytes."""
    entries: dict[str, Any] = {METADATA: {"format": FORMAT}}
    start = 0
    for name, tensor in tensors.items():
        entries[name] = {
            "dtype": dtype_name(tensor.dtype),
            "shape": list(tensor.shape),
            "data_offsets": [start, start + tensor.nbytes],
        }
        start += tensor.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _checked(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Diagnosis:
    """The diagnosis, when its parts fit one another. Raises ValueError or TypeError."""
    placed = tuple(Placed(**{**each, "shape": tuple(each["shape"])}) for each in about["tensors"])
    models = tuple(map(str, about["models"]))
    shapes = Sums(**tensors)
    inputs = len(models) + 1
    if shapes.gram.shape != (len(placed), inputs, inputs) or shapes.magnitudes.shape[:2] != (len(placed), inputs - 1):
        raise ValueError("its parts do not fit one another")
    return Diagnosis(
        base=str(about["base"]),
        models=models,
        tensors=placed,
        fingerprint=str(about["fingerprint"]),
        warnings=tuple(map(str, about["warnings"])),
        **tensors,
    )
