"""A base model with a LoRA adapter, as a checkpoint of the fine-tuned tensors, made by rows as they are read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any

from merging.checkpoint.folders import ADAPTER, follow, read_config
from merging.checkpoint.lora import Changes, Update, check_config, match_changes
from merging.checkpoint.shards import open_checkpoint
from merging.checkpoint.tensors import Checkpoint, TensorSpec
from merging.errors import CheckpointError
from merging.lazy import Float, Tensor, torch

# Entries of one matrix product. Products are always taken over the same rows, whatever is asked for, so that every
# entry comes out of the same sum: results of matrix products depend on their shape in the last bit.
TILE = 1 << 16
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class Adapter:
    """An opened adapter folder: its tensors, and its config as PEFT wrote it."""

    location: str
    tensors: Checkpoint
    config: Mapping[str, Any]


def open_adapter(path: str | Path, *, allow_pickle: bool = False) -> Adapter:
    """The PEFT LoRA adapter in a folder; headers and config only.

    Raises CheckpointError or Problems, also for every kind of adapter other than plain LoRA.
    """
    folder = Path(path)
    if not (folder / ADAPTER).is_file():
        raise CheckpointError(f"{path} is no adapter", must_be=f"a folder with {ADAPTER} and {_WEIGHTS[0]}")
    config = read_config(folder, ADAPTER)
    check_config(config, str(folder / ADAPTER))
    for name in _WEIGHTS:
        if (folder / name).exists():
            follow(folder, name)
            return Adapter(str(path), open_checkpoint(folder / name, allow_pickle=allow_pickle), config)
    raise CheckpointError(f"the adapter {path} has no weights", must_be=f"a folder with {_WEIGHTS[0]}")


class AdaptedCheckpoint:
    """The fine-tuned tensors: base + scale * B A where the adapter changes one, the adapter's own where it brings one.

    Changed tensors are float32 (float64 where the base is), so that nothing is rounded on the way to a merge; the
    others keep their dtype. Config and sidecars are those of the base model.
    """

    def __init__(self, base: Checkpoint, adapter: Adapter):
        self.location = f"{base.location} + lora:{adapter.location}"
        self.config: Mapping[str, Any] = base.config
        # Where base and adapter come from on the Hub, for those that do.
        self.pinned: tuple[Any, ...] = getattr(base, "pinned", ())
        self.base = base
        self._adapter = adapter
        self._changes: Changes = match_changes(adapter.config, adapter.tensors.specs, base.specs, adapter.location)
        self.specs: Mapping[str, TensorSpec] = self._changed_specs()
        self._factors = lru_cache(maxsize=16)(partial(_load_factors, adapter.tensors))

    @property
    def fingerprint(self) -> str:
        """Digest of both fingerprints and of the adapter's config."""
        config = json.dumps(self._adapter.config, sort_keys=True)
        return sha256(
            "\n".join((self.base.fingerprint, self._adapter.tensors.fingerprint, config)).encode()
        ).hexdigest()

    @property
    def integrity(self) -> str | None:
        """Which check the base model's bytes have passed, if it comes from the Hub."""
        told: str | None = getattr(self.base, "integrity", None)
        return told

    def expect(self, names: Iterable[str], stop: Event | None = None) -> None:
        """Tell the base model, if it wants to know, which of its tensors will be read, and what ends its waiting."""
        if hasattr(self.base, "expect"):
            self.base.expect([name for name in names if name in self.base.specs], stop)

    def finished(self, name: str) -> None:
        """Tell the base model, if it wants to know, that a tensor has been read."""
        if hasattr(self.base, "finished") and name in self.base.specs:
            self.base.finished(name)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Entries [start, stop); the same bits whatever the range."""
        brought = self._changes.whole.get(name)
        source = (
            self.base.read(name, start, stop) if brought is None else self._adapter.tensors.read(brought, start, stop)
        )
        update = self._changes.updates.get(name)
        if update is None:
            return source
        entries = source.to(torch.float64 if source.dtype == torch.float64 else torch.float32, copy=True)
        left, right = self._factors(update)
        tile = max(1, TILE // max(1, right.shape[1]))
        size = tile * right.shape[1]
        stop = start + len(entries)
        for i in range(start // size, -(-stop // size)) if size else ():
            product = (left[i * tile : (i + 1) * tile] @ right).mul_(update.scale).view(-1)
            first, last = max(start, i * size), min(stop, i * size + len(product))
            entries[first - start : last - start] += product[first - i * size : last - i * size]
        return entries

    def advise(self, name: str, start: int = 0, stop: int | None = None) -> None:
        """Pass on to the base model what will be read soon."""
        advise = getattr(self.base, "advise", None)
        if advise is not None and name not in self._changes.whole:
            advise(name, start, stop)

    def sidecars(self) -> Mapping[str, Path]:
        """Those of the base model."""
        return self.base.sidecars()

    def _changed_specs(self) -> dict[str, TensorSpec]:
        specs = dict(self.base.specs)
        for name, brought in self._changes.whole.items():
            given = self._adapter.tensors.specs[brought]
            specs[name] = TensorSpec(name, given.shape, given.dtype)
        for name in self._changes.updates:
            before = specs[name]
            specs[name] = TensorSpec(name, before.shape, "F64" if before.dtype == "F64" else "F32")
        return specs


def _load_factors(tensors: Checkpoint, update: Update) -> tuple[Float[Tensor, "rows r"], Float[Tensor, "r columns"]]:
    up, down = (
        tensors.read(name).float().reshape(tensors.specs[name].shape).flatten(1) for name in (update.up, update.down)
    )
    up = up.reshape(up.shape[0], down.shape[0])
    if update.transposed:
        return down.T.contiguous(), up.T.contiguous()
    return up.contiguous(), down.contiguous()
