"""Pickled checkpoints (.bin, .pt), opt-in: tensors only, memory-mapped, never an unsafe fallback.

A pickle is a program. torch's weights-only reader refuses every instruction that does not build tensors; what it
refuses is refused here, with advice, and never tried again in another way.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from merging.checkpoint.bytes import LocalBytes, sampled_digest
from merging.checkpoint.folders import Weights, raise_flat, read_config
from merging.checkpoint.headers import name_fault, raise_some, shown
from merging.checkpoint.sidecars import find_sidecars
from merging.checkpoint.tensors import TensorSpec, dtype_name
from merging.errors import CheckpointError, MergingError
from merging.lazy import Tensor, torch

# Training scripts put the weights under one of these, beside the optimizer's state.
_NESTED = ("state_dict", "model_state_dict", "model")


class PickleCheckpoint:
    """Tensors of one or many pickles; reads are views of mapped memory, which callers must not write to."""

    def __init__(self, location: str, weights: Weights, folder: Path | None = None):
        self.location = location
        self.config: Mapping[str, Any] = read_config(folder) if folder else {}
        self._folder = folder
        self._files = weights.files
        self._fingerprint = ""
        problems: list[MergingError] = []
        self._tensors: dict[str, Tensor] = {}
        for file in weights.files:
            try:
                self._add(file)
            except MergingError as error:
                problems.append(error)
        raise_flat(problems)
        if weights.weight_map is not None:
            _refuse_lies(weights.weight_map, self._tensors, location)
        self.specs: Mapping[str, TensorSpec] = {
            name: TensorSpec(name, tuple(tensor.shape), dtype_name(tensor.dtype))
            for name, tensor in self._tensors.items()
        }

    @property
    def fingerprint(self) -> str:
        """Digest of file sizes and of 64 samples of 4 KiB, spread evenly over each file."""
        if not self._fingerprint:
            digest = sha256()
            for file in self._files:
                digest.update(sampled_digest(LocalBytes(file), 0))
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Entries [start, stop): a view where the tensor is contiguous, else a copy of the rows that cover them."""
        tensor = self._tensors[name]
        stop = tensor.numel() if stop is None else stop
        if not 0 <= start <= stop <= tensor.numel():
            raise IndexError(f"{name!r} has {tensor.numel()} entries; [{start}, {stop}) is not among them")
        if tensor.is_contiguous() or tensor.dim() < 2 or not tensor.numel():
            return tensor.reshape(-1)[start:stop]
        columns = tensor.numel() // tensor.shape[0]
        first = start // columns
        covering = tensor[first : -(-stop // columns)].reshape(-1)
        return covering[start - first * columns : stop - first * columns]

    def sidecars(self) -> Mapping[str, Path]:
        """Files beside the weights that travel with them."""
        return find_sidecars(self._folder) if self._folder else {}

    def _add(self, file: Path) -> None:
        faults = []
        for name, tensor in _load(file).items():
            if fault := name_fault(name):
                faults.append(fault)
            elif name in self._tensors:
                faults.append(f"tensor {shown(name)} is in two files")
            self._tensors[name] = tensor
        raise_some([CheckpointError(fault, where=str(file)) for fault in faults])


def _load(file: Path) -> Mapping[str, Tensor]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        # torch raises nearly every type of exception on files that it cannot read.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"torch will not read this pickle: {reason[:300]}",
            where=str(file),
            must_be="a file of tensors saved by torch 1.6 or later",
            fix="convert it to safetensors where you trust it; it is never loaded in an unsafe way",
        ) from None
    for key in _NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        raise CheckpointError(
            f"the pickle holds a {type(content).__name__}", where=str(file), must_be="a dict of tensors"
        )
    wrong = [name for name, value in content.items() if not (isinstance(name, str) and _usable(value))]
    raise_some([CheckpointError(f"{shown(name)} is not a dense tensor", where=str(file)) for name in wrong])
    return {name: tensor.detach() for name, tensor in content.items()}


def _usable(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized


def _refuse_lies(weight_map: Mapping[str, str], tensors: Mapping[str, Tensor], where: str) -> None:
    faults = [f"the index maps tensor {shown(name)}, which no file holds" for name in weight_map if name not in tensors]
    faults += [f"tensor {shown(name)} is in no index" for name in tensors if name not in weight_map]
    raise_some([CheckpointError(fault, where=where) for fault in faults])
