"""Tasks kept in one vector, read back: every one of them is a checkpoint, made by rows as it is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any

from merging.checkpoint.folders import read_config
from merging.checkpoint.headers import raise_some
from merging.checkpoint.shards import open_checkpoint
from merging.checkpoint.sidecars import find_sidecars
from merging.checkpoint.tensors import Checkpoint, TensorSpec, torch_dtype
from merging.errors import CheckpointError, nearest
from merging.lazy import Tensor, torch
from merging.store.bits import BITS, packed_bytes, unpack
from merging.store.record import INDEX, RECORD, Kept, copy_name, mask_name, read_store_record, vector_name

# Entries made at once: buffers of this many fit the caches.
BLOCK = 1 << 18


class TaskStore:
    """The store that `merging compress` wrote into a folder; headers and record are read and compared, no entry is.

    Raises CheckpointError or Problems where they do not fit together.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.record = read_store_record(self.folder)
        self.held: Checkpoint = open_checkpoint(self.folder / INDEX)
        raise_some([CheckpointError(fault, where=str(self.folder)) for fault in self._faults()])

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order of the models they came from."""
        return self.record.tasks

    def number(self, task: str | int, where: str | None = None) -> int:
        """A task's number, counted from 1, by its name or number. Raises CheckpointError naming those there are."""
        text = str(task)
        if text in self.tasks:
            return self.tasks.index(text) + 1
        if text.isdecimal() and 1 <= int(text[:9]) <= len(self.tasks):
            return int(text)
        close = nearest(text, self.tasks, 1) or list(self.tasks[:1])
        raise CheckpointError(
            f"{self.folder} holds no task {text!r}" if text else f"the task of the store {self.folder} is not named",
            where=where,
            must_be="one of " + ", ".join(f"{name} ({i})" for i, name in enumerate(self.tasks, 1)),
            fix=f"write store:{self.folder}#{close[0]}",
        )

    def open(self, task: str | int, base: Checkpoint) -> TaskCheckpoint:
        """One task's model on its base. Raises CheckpointError when that is not the base the store was made from."""
        number = self.number(task)
        if base.fingerprint != self.record.base_fingerprint:
            raise CheckpointError(
                f"{base.location} is not the base model that the store was made from: its fingerprint differs",
                where=str(self.folder / RECORD),
                must_be=f"the model whose fingerprint is {self.record.base_fingerprint}",
                fix=f"put that model back at {self.record.base}, seen from the store, or name its place in {RECORD}",
            )
        return TaskCheckpoint(self, number, base)

    def _faults(self) -> list[str]:
        specs = self.held.specs
        wanted = {spec.name: spec for _, spec in self.record.stored(lambda name: _dtype_of(specs, name))}
        faults = [f"the store lacks {name}" for name in wanted if name not in specs]
        faults += [f"{RECORD} does not mention {name}" for name in specs if name not in wanted]
        for name, spec in wanted.items():
            found = specs.get(name, spec)
            if (found.shape, found.dtype) != (spec.shape, spec.dtype) or not _is_fit(found):
                what = f"{name} is {found.dtype} in shape {list(found.shape)}"
                faults.append(f"{what}; {RECORD} wants {spec.dtype} in shape {list(spec.shape)}")
        return faults


def _dtype_of(specs: Mapping[str, TensorSpec], tensor: str) -> str:
    """The vector's own dtype: the record leaves it to the files."""
    held = specs.get(vector_name(tensor))
    return held.dtype if held else "F32"


def _is_fit(spec: TensorSpec) -> bool:
    return spec.is_float or not spec.name.startswith("vector.")


class TaskCheckpoint:
    """The model of one task: base + scale mask vector, in the dtype that a merge would have given it."""

    def __init__(self, store: TaskStore, number: int, base: Checkpoint):
        self.location = f"store:{store.folder}#{store.tasks[number - 1]}"
        self.config: Mapping[str, Any] = read_config(store.folder)
        self.base = base
        # Where the base model comes from on the Hub, if it does.
        self.pinned: tuple[Any, ...] = getattr(base, "pinned", ())
        self._store = store
        self._number = number
        self._kept = {kept.spec.name: kept for kept in store.record.tensors}
        self.specs: Mapping[str, TensorSpec] = {name: kept.spec for name, kept in self._kept.items()}
        faults = [fault for kept in store.record.tensors if (fault := _misfit(kept, base))]
        raise_some([CheckpointError(fault, where=str(store.folder / RECORD)) for fault in faults])

    @property
    def fingerprint(self) -> str:
        """Digest of the store's contents and its record, the base model's, and the task."""
        record = json.dumps(self._store.record.data(), sort_keys=True)
        parts = (self._store.held.fingerprint, record, self.base.fingerprint, str(self._number))
        return sha256("\n".join(parts).encode()).hexdigest()

    @property
    def integrity(self) -> str | None:
        """Which check the base model's bytes have passed, if it comes from the Hub."""
        told: str | None = getattr(self.base, "integrity", None)
        return told

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Entries [start, stop); the same bits whatever the range."""
        kept = self._kept.get(name)
        if kept is None:
            close = nearest(name, self._kept)
            fix = f"nearest: {', '.join(close)}" if close else None
            raise CheckpointError(f"there is no tensor {name!r}", where=self.location, fix=fix)
        stop = kept.spec.length if stop is None else stop
        if not 0 <= start <= stop <= kept.spec.length:
            raise IndexError(f"{name!r} has {kept.spec.length} entries; [{start}, {stop}) is not among them")
        if kept.way == "copy":
            return self._store.held.read(copy_name(name), start, stop)
        if kept.way == "base":
            return self.base.read(kept.base, start, stop).to(torch_dtype(kept.spec.dtype))
        made = torch.empty(stop - start, dtype=torch_dtype(kept.spec.dtype))
        for a in range(start, stop, BLOCK):
            b = min(a + BLOCK, stop)
            made[a - start : b - start] = self._restored(kept, a, b)
        return made

    def _restored(self, kept: Kept, start: int, stop: int) -> Tensor:
        """In float32 and in the order of the merge's own products, so that the bits are those of the merge."""
        first, held = start // BITS, self._store.held
        packed = held.read(mask_name(self._number, kept.spec.name), first, packed_bytes(stop))
        mask = unpack(packed, start - first * BITS, stop - start).to(torch.float32)
        vector = held.read(vector_name(kept.spec.name), start, stop).to(torch.float32)
        scale = self._store.record.scales[kept.scales][self._number - 1]
        return mask.mul_(vector).mul_(scale).add_(self.base.read(kept.base, start, stop).to(torch.float32))

    def advise(self, name: str, start: int = 0, stop: int | None = None) -> None:
        """Pass on to base model and store what will be read soon."""
        kept = self._kept[name]
        if kept.way != "copy" and hasattr(self.base, "advise"):
            self.base.advise(kept.base, start, stop)
        if kept.way == "vector" and hasattr(self._store.held, "advise"):
            self._store.held.advise(vector_name(name), start, stop)

    def expect(self, names: Iterable[str], stop: Event | None = None) -> None:
        """Tell the base model, if it wants to know, which of its tensors will be read, and what ends its waiting."""
        if hasattr(self.base, "expect"):
            kept = [self._kept[name] for name in names if name in self._kept]
            self.base.expect([each.base for each in kept if each.way != "copy"], stop)

    def finished(self, name: str) -> None:
        """Tell the base model, if it wants to know, that a tensor has been read."""
        if hasattr(self.base, "finished") and name in self._kept and self._kept[name].way != "copy":
            self.base.finished(self._kept[name].base)

    def sidecars(self) -> Mapping[str, Path]:
        """Those that lie in the store."""
        return find_sidecars(self._store.folder)


def _misfit(kept: Kept, base: Checkpoint) -> str | None:
    """What is wrong with what a tensor is said to be in the base model; None when it fits."""
    if kept.way == "copy":
        return None
    own = base.specs.get(kept.base)
    if own is None:
        return f"the base model has no tensor {kept.base}, which {kept.spec.name} is made of"
    floats = own.is_float and kept.spec.is_float
    if own.shape == kept.spec.shape and (floats or (kept.way == "base" and own.dtype == kept.spec.dtype)):
        return None
    what = f"{kept.spec.name} is {kept.spec.dtype} in shape {list(kept.spec.shape)}"
    return f"{what}; {kept.base} of the base model is {own.dtype} in shape {list(own.shape)}"
