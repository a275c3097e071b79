"""Named tensors: what one is, and the protocol of everything that yields them.

A dtype is named as safetensors names it ("BF16"), so that headers, recipes and plans need no torch.
Entries of a tensor are counted in row-major order; a read is a range of entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from merging.checkpoint.bytes import entries_memory
from merging.errors import CheckpointError
from merging.lazy import Tensor, torch


@dataclass(frozen=True, slots=True)
class Dtype:
    """What a dtype name stands for; `bits` per entry, `torch_name` None where torch cannot hold it as entries."""

    bits: int
    kind: Literal["float", "integer", "bool", "complex", "packed"]
    torch_name: str | None


DTYPES: Mapping[str, Dtype] = {
    "BOOL": Dtype(8, "bool", "bool"),
    "U8": Dtype(8, "integer", "uint8"),
    "I8": Dtype(8, "integer", "int8"),
    "F8_E4M3": Dtype(8, "float", "float8_e4m3fn"),
    "F8_E5M2": Dtype(8, "float", "float8_e5m2"),
    "F8_E4M3FNUZ": Dtype(8, "float", "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": Dtype(8, "float", "float8_e5m2fnuz"),
    # Exponents and sub-byte floats are quantisation codes: meaningless without their scales, so never averaged.
    "F8_E8M0": Dtype(8, "packed", "float8_e8m0fnu"),
    "F4": Dtype(4, "packed", None),
    "F6_E2M3": Dtype(6, "packed", None),
    "F6_E3M2": Dtype(6, "packed", None),
    "I16": Dtype(16, "integer", "int16"),
    "U16": Dtype(16, "integer", "uint16"),
    "F16": Dtype(16, "float", "float16"),
    "BF16": Dtype(16, "float", "bfloat16"),
    "I32": Dtype(32, "integer", "int32"),
    "U32": Dtype(32, "integer", "uint32"),
    "F32": Dtype(32, "float", "float32"),
    "C64": Dtype(64, "complex", "complex64"),
    "F64": Dtype(64, "float", "float64"),
    "I64": Dtype(64, "integer", "int64"),
    "U64": Dtype(64, "integer", "uint64"),
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, shape and stored dtype of one tensor; no entries."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def entries(self) -> int:
        """Number of entries; 1 for a 0-d tensor."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Stored size in bytes."""
        return (self.entries * DTYPES[self.dtype].bits + 7) // 8

    @property
    def length(self) -> int:
        """What `read` and `write` count: entries; bytes for a dtype of less than a byte, which moves as raw uint8."""
        return self.entries if DTYPES[self.dtype].torch_name else self.nbytes

    @property
    def is_float(self) -> bool:
        """Whether the entries are numbers that can be averaged."""
        return DTYPES[self.dtype].kind == "float"


@runtime_checkable
class Checkpoint(Protocol):
    """Everything that yields named tensors: a folder of shards, an adapter, a view, a spool.

    Opening reads headers only. `fingerprint` identifies the contents and enters plan hash, journal and card.
    """

    @property
    def location(self) -> str:
        """What the user called it; for messages."""
        ...

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """All tensors, in file order."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """The content of config.json; empty where there is none."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of headers and of sampled contents."""
        ...

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Entries [start, stop) of a tensor, row-major: shape (stop - start,), stored dtype, on the cpu."""
        ...

    def sidecars(self) -> Mapping[str, Path]:
        """Files that travel with the weights (tokenizer, generation config, …), by name; never config.json."""
        ...


class MemoryCheckpoint:
    """A checkpoint held in memory; for notebooks, searches and tests."""

    def __init__(
        self, tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None, location: str = "memory"
    ):
        self.location = location
        self.config: Mapping[str, Any] = dict(config or {})
        self._tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
        self.specs: Mapping[str, TensorSpec] = {
            name: TensorSpec(name, tuple(tensor.shape), dtype_name(tensor.dtype))
            for name, tensor in self._tensors.items()
        }

    @property
    def fingerprint(self) -> str:
        """Digest of every entry: contents in memory are small enough to hash whole."""
        from hashlib import sha256

        digest = sha256()
        for name, spec in self.specs.items():
            digest.update(f"{name}{spec.shape}{spec.dtype}".encode())
            digest.update(entries_memory(self._tensors[name]))
        return digest.hexdigest()

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """A view of the held entries; callers must not write to it."""
        return self._tensors[name].reshape(-1)[start:stop]

    def sidecars(self) -> Mapping[str, Path]:
        """None: nothing on disk belongs to it."""
        return {}


def torch_dtype(name: str) -> Any:
    """The torch dtype that holds entries of a named dtype; uint8 for packed ones, read as raw bytes."""
    return getattr(torch, DTYPES[name].torch_name or "uint8")


def dtype_name(dtype: Any) -> str:
    """The safetensors name of a torch dtype.

    Raises CheckpointError for a dtype that safetensors cannot store.
    """
    short = str(dtype).removeprefix("torch.")
    for name, facts in DTYPES.items():
        if facts.torch_name == short:
            return name
    raise CheckpointError(f"safetensors cannot store entries of type {dtype}", must_be="one of " + ", ".join(DTYPES))


def promote(names: Iterable[str]) -> str:
    """The common dtype of float tensors: the widest; float32 where two of one width differ (BF16 with F16).

    >>> promote(["BF16", "F32"]), promote(["BF16", "F16"]), promote(["BF16"])
    ('F32', 'F32', 'BF16')
    """
    distinct = sorted(set(names), key=lambda name: DTYPES[name].bits)
    widest = [name for name in distinct if DTYPES[name].bits == DTYPES[distinct[-1]].bits]
    if len(widest) == 1:
        return widest[0]
    return "F32"
