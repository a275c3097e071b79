"""Tasks kept in one vector, read back: every one of them is a checkpoint, made by rows as it is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any

from merging.checkpoint.headers import INDEX_LIMIT, parse_index, raise_some
from merging.checkpoint.tensors import Checkpoint, TensorSpec, torch_dtype
from merging.errors import CheckpointError, nearest
from merging.lazy import Tensor, torch
from merging.store.bits import BITS, packed_bytes, unpack
from merging.store.files import LocalFiles, StoreFiles
from merging.store.record import (
    ANY_FLOAT,
    INDEX,
    RECORD,
    STORE,
    Kept,
    copy_name,
    mask_name,
    read_store_record,
    vector_name,
)

# Entries made at once: buffers of this many fit the caches.
BLOCK = 1 << 18


class TaskStore:
    """The store that `merging compress` wrote into a folder; record and index are read and compared, no entry is.

    Of the weight files only those are looked at that the task asked for needs. `place` may be files elsewhere. Raises
    CheckpointError, HubError or Problems where record and index do not fit together.
    """

    def __init__(self, place: str | Path | StoreFiles):
        self.files: StoreFiles = LocalFiles(Path(place)) if isinstance(place, str | Path) else place
        self.record = read_store_record(self.files)
        if not self.files.has(INDEX):
            raise CheckpointError(f"{INDEX} is missing", where=self.files.where, fix="fetch it again")
        self._index = parse_index(self.files.content(INDEX, INDEX_LIMIT), f"{self.files.where}/{INDEX}").weight_map
        wanted = {spec.name for spec in self._wanted(None)}
        faults = [f"the store lacks {name}" for name in wanted if name not in self._index]
        faults += [f"{RECORD} does not mention {name}" for name in self._index if name not in wanted]
        raise_some([CheckpointError(fault, where=self.files.where) for fault in sorted(faults)])

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order of the models they came from."""
        return self.record.tasks

    def shards(self, number: int | None = None) -> list[str]:
        """Names of the weight files that the task of this number needs; None: of all."""
        return sorted({self._index[spec.name] for spec in self._wanted(number)})

    def _wanted(self, number: int | None) -> list[TensorSpec]:
        stored = self.record.stored(lambda _: ANY_FLOAT)
        return [spec for of, spec in stored if number is None or of in (0, number)]

    def number(self, task: str | int, where: str | None = None) -> int:
        """A task's number, counted from 1, by its name or number. Raises CheckpointError naming those there are."""
        text = str(task)
        if text in self.tasks:
            return self.tasks.index(text) + 1
        if text.isdecimal() and 1 <= int(text[:9]) <= len(self.tasks):
            return int(text)
        close = nearest(text, self.tasks, 1) or list(self.tasks[:1])
        name = self.files.name
        raise CheckpointError(
            f"{name} holds no task {text!r}" if text else f"the task of the store {name} is not named",
            where=where,
            must_be="one of " + ", ".join(f"{task} ({i})" for i, task in enumerate(self.tasks, 1)),
            fix=f"write {STORE}{name}#{close[0]}",
        )

    def open(self, task: str | int, base: Checkpoint) -> TaskCheckpoint:
        """One task's model on its base. Raises CheckpointError when that is not the base the store was made from."""
        number = self.number(task)
        held = self.held(number)
        if base.fingerprint != self.record.base_fingerprint:
            named = self.record.base
            raise CheckpointError(
                f"{base.location} is not the base model that the store was made from: its fingerprint differs",
                where=f"{self.files.where}/{RECORD}",
                must_be=f"the model whose fingerprint is {self.record.base_fingerprint}",
                fix=f"put that model back at {named}, seen from the store, or name its place in {RECORD}"
                if isinstance(self.files, LocalFiles)
                else f"ask who published the store: {named}, which it names, holds other weights",
            )
        return TaskCheckpoint(self, number, held, base)

    def held(self, number: int | None = None) -> Checkpoint:
        """What is stored for the task of this number, and for all tasks; None: of all of them.

        Raises CheckpointError, HubError or Problems where its files are missing or not as the record says.
        """
        wanted = self._wanted(number)
        shards = self.shards(number)
        found = self.files.open({name: shard for name, shard in self._index.items() if shard in shards})
        faults = filter(None, (_unlike(found.specs[spec.name], spec) for spec in wanted))
        raise_some([CheckpointError(fault, where=self.files.where) for fault in faults])
        return found


def _unlike(found: TensorSpec, wanted: TensorSpec) -> str | None:
    """What is wrong with a stored tensor; the dtype of the vector the record leaves to the files."""
    fits = found.is_float if wanted.dtype == ANY_FLOAT else found.dtype == wanted.dtype
    if fits and found.shape == wanted.shape:
        return None
    dtype = "floats" if wanted.dtype == ANY_FLOAT else wanted.dtype
    what = f"{found.name} is {found.dtype} in shape {list(found.shape)}"
    return f"{what}; {RECORD} wants {dtype} in shape {list(wanted.shape)}"


class TaskCheckpoint:
    """The model of one task: base + scale mask vector, in the dtype that a merge would have given it.

    `held` is what of the store it is made of. Config and sidecars are the store's.
    """

    def __init__(self, store: TaskStore, number: int, held: Checkpoint, base: Checkpoint):
        self.location = f"{STORE}{store.files.name}#{store.tasks[number - 1]}"
        self.config: Mapping[str, Any] = held.config
        self.base = base
        self.held = held
        # Where store and base model come from on the Hub, for those that do.
        self.pinned: tuple[Any, ...] = (*getattr(held, "pinned", ()), *getattr(base, "pinned", ()))
        self._record = store.record
        self._number = number
        self._kept = {kept.spec.name: kept for kept in store.record.tensors}
        self.specs: Mapping[str, TensorSpec] = {name: kept.spec for name, kept in self._kept.items()}
        faults = [fault for kept in store.record.tensors if (fault := _misfit(kept, base))]
        raise_some([CheckpointError(fault, where=f"{store.files.where}/{RECORD}") for fault in faults])

    @property
    def made_of(self) -> tuple[Checkpoint, Checkpoint]:
        """What is read for it: its part of the store, and the base model."""
        return self.held, self.base

    @property
    def fingerprint(self) -> str:
        """Digest of what the store holds for the task, of the record, of the base model, and of the task."""
        record = json.dumps(self._record.data(), sort_keys=True)
        parts = (self.held.fingerprint, record, self.base.fingerprint, str(self._number))
        return sha256("\n".join(parts).encode()).hexdigest()

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
            return self.held.read(copy_name(name), start, stop)
        if kept.way == "base":
            return self.base.read(kept.base, start, stop).to(torch_dtype(kept.spec.dtype))
        made = torch.empty(stop - start, dtype=torch_dtype(kept.spec.dtype))
        for a in range(start, stop, BLOCK):
            b = min(a + BLOCK, stop)
            made[a - start : b - start] = self._restored(kept, a, b)
        return made

    def _restored(self, kept: Kept, start: int, stop: int) -> Tensor:
        """In float32 and in the order of the merge's own products, so that the bits are those of the merge."""
        first, name = start // BITS, kept.spec.name
        packed = self.held.read(mask_name(self._number, name), first, packed_bytes(stop))
        mask = unpack(packed, start - first * BITS, stop - start).to(torch.float32)
        vector = self.held.read(vector_name(name), start, stop).to(torch.float32)
        scale = self._record.scales[kept.scales][self._number - 1]
        return mask.mul_(vector).mul_(scale).add_(self.base.read(kept.base, start, stop).to(torch.float32))

    def advise(self, name: str, start: int = 0, stop: int | None = None) -> None:
        """Pass on to base model and store what will be read soon."""
        kept = self._kept[name]
        for source, stored in self.reads(name):
            if not hasattr(source, "advise"):
                continue
            if stored == mask_name(self._number, name):
                last = kept.spec.length if stop is None else min(stop, kept.spec.length)
                source.advise(stored, start // BITS, packed_bytes(last))
            else:
                source.advise(stored, start, stop)

    def reads(self, name: str) -> tuple[tuple[Checkpoint, str], ...]:
        """What is read for a tensor: of the store or the base model, and under which name."""
        kept = self._kept[name]
        if kept.way == "copy":
            return ((self.held, copy_name(name)),)
        if kept.way == "base":
            return ((self.base, kept.base),)
        return (
            (self.held, vector_name(name)),
            (self.held, mask_name(self._number, name)),
            (self.base, kept.base),
        )

    def expect(self, names: Iterable[str], stop: Event | None = None) -> None:
        """Tell store and base model, if they want to know, which tensors will be read, and what ends their waiting."""
        read = [each for name in names if name in self._kept for each in self.reads(name)]
        for source in self.made_of:
            if hasattr(source, "expect"):
                source.expect([name for place, name in read if place is source], stop)

    def finished(self, name: str) -> None:
        """Tell store and base model, if they want to know, that a tensor has been read."""
        for source, stored in self.reads(name) if name in self._kept else ():
            if hasattr(source, "finished"):
                source.finished(stored)

    def sidecars(self) -> Mapping[str, Path]:
        """Those that lie in the store."""
        return self.held.sidecars()


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
