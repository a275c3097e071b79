"""Where a merge that no formula places really stands: inner products of its task vector with those of its models."""

from __future__ import annotations

from collections.abc import Sequence

from merging.checkpoint.tensors import Checkpoint
from merging.lazy import Float, Tensor, torch


class TaskVectors:
    """The task vectors of some models in memory, of the named tensors; small models only."""

    def __init__(self, base: Checkpoint, models: Sequence[Checkpoint], tensors: Sequence[str]):
        self._base = {name: base.read(name).float() for name in tensors}
        self._changes = {
            name: torch.stack([model.read(name).float() - origin for model in models])
            for name, origin in self._base.items()
        }

    def products(self, merged: Checkpoint) -> Float[Tensor, "tensors products"]:
        """Of each tensor <merged - base, tau_i> for every model, and last |merged - base|^2; summed in float64."""
        rows = []
        for name, origin in self._base.items():
            change = (merged.read(name).float() - origin).double()
            rows.append(torch.cat([self._changes[name].double() @ change, (change @ change)[None]]))
        return torch.stack(rows)
