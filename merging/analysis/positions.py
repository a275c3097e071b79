"""Where a merge of task vectors stands, in closed form: norms, angles, distances and shares from inner products alone.

A merge theta_0 + sum_i c_i tau_i is linear in the task vectors, so every length and angle of it is a quadratic form of
the Gram matrix that a diagnosis holds for each tensor. Coefficients may differ from tensor to tensor. No weight is read
again: a slider that moves costs well under a millisecond.

What nothing defines has a value that plots and compares: a cosine to a zero vector is 0, shares of a zero merge are 0,
interference where nothing is merged is 1, and a length relative to a zero base model is infinite unless it is 0 too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from merging.errors import MergingError
from merging.lazy import Float, Int, Tensor, torch

if TYPE_CHECKING:
    from merging.analysis.diagnosis import Diagnosis, Placed

Group = tuple[str | None, int | None, str | None]


class Stretch(NamedTuple):
    """The merge restricted to some tensors: one layer of a stack (`layer` None: outside the layers), or one role."""

    stack: str | None
    layer: int | None
    role: str | None
    norm: float
    relative_norm: float
    cosines: tuple[float, ...]
    shares: tuple[float, ...]
    interference: float


@dataclass(frozen=True, eq=False)
class Position:
    """A merge as its distances and angles tell it.

    norm             |sum_i c_i tau_i|, the merge's own task vector
    relative_norm    norm / |base|
    cosines          of it to each task vector
    distances        of the merged model to the base model, then to each fine-tuned model
    shares           <c_i tau_i, merged> / |merged|^2 of each task vector; they sum to 1
    orthogonal_norm  what the norm would be if the task vectors were orthogonal
    interference     norm / orthogonal_norm: above 1 where they pull together, below 1 where they cancel
    """

    models: tuple[str, ...]
    norm: float
    relative_norm: float
    cosines: tuple[float, ...]
    distances: tuple[float, ...]
    shares: tuple[float, ...]
    orthogonal_norm: float
    interference: float
    _groups: Callable[[Literal["layer", "role"]], tuple[Stretch, ...]]

    @cached_property
    def layers(self) -> tuple[Stretch, ...]:
        """Layer by layer within each stack, what stands outside the layers first."""
        return self._groups("layer")

    @cached_property
    def roles(self) -> tuple[Stretch, ...]:
        """Role by role, over all layers."""
        return self._groups("role")

    def records(self, by: Literal["layer", "role"]) -> list[dict[str, Any]]:
        """One dictionary per number, ready to plot: stack, layer, role, quantity, model and value.

        Quantities are norm, relative_norm and interference, of no model, and the cosine and share of each model.
        """
        found: list[dict[str, Any]] = []
        for each in self.layers if by == "layer" else self.roles:
            place = {"stack": each.stack, "layer": each.layer, "role": each.role}
            for quantity in ("norm", "relative_norm", "interference"):
                found.append({**place, "quantity": quantity, "model": None, "value": getattr(each, quantity)})
            for quantity, values in (("cosine", each.cosines), ("share", each.shares)):
                found += [
                    {**place, "quantity": quantity, "model": model, "value": value}
                    for model, value in zip(self.models, values, strict=True)
                ]
        return found


class Positions:
    """All merges of a diagnosis' models; `at` finds one."""

    def __init__(self, diagnosis: Diagnosis):
        self.models = diagnosis.names
        gram = diagnosis.gram.double()
        self._tasks = gram[:, 1:, 1:].contiguous()
        self._base = gram[:, 0, 0]
        self._groupings = {"layer": _by_layer(diagnosis.tensors), "role": _by_role(diagnosis.tensors)}
        self._lengths = self._tasks.diagonal(dim1=1, dim2=2)
        # Of the whole model: the base's squared length, then those of the task vectors.
        self._whole = torch.cat([self._base.sum()[None], self._lengths.sum(0)])

    @property
    def tasks(self) -> Float[Tensor, "tensors models models"]:
        """Inner products of the task vectors, tensor by tensor."""
        return self._tasks

    def spread(self, coefficients: Tensor | Sequence[Any]) -> Float[Tensor, "tensors models"]:
        """Coefficients of each tensor, from those or from one for each model.

        Raises MergingError for another shape or for what is no finite number.
        """
        given = torch.as_tensor(coefficients, dtype=torch.float64)
        tensors, models, _ = self._tasks.shape
        if tuple(given.shape) not in ((models,), (tensors, models)):
            raise MergingError(
                f"coefficients have shape {list(given.shape)}",
                must_be=f"[{models}], one for each model, or [{tensors}, {models}], one for each tensor and model",
            )
        if not bool(given.isfinite().all()):
            raise MergingError("a coefficient is not a finite number", must_be="finite numbers")
        return given.expand(tensors, models)

    def at(self, coefficients: Tensor | Sequence[Any]) -> Position:
        """The merge theta_0 + sum_i c_i tau_i; c is (models,), or (tensors, models) where it differs by tensor."""
        c = self.spread(coefficients)
        sums = self._sums(c)
        norm, relative, cosines, shares, orthogonal, interference = self._measures(sums.sum(0), self._whole)
        # As forms of c - e_j, so that no cancellation is left where the merge is a model itself.
        gaps = c[:, None, :] - torch.eye(len(self.models), dtype=torch.float64)
        apart = torch.einsum("tji,tik,tjk->j", gaps, self._tasks, gaps).clamp(min=0).sqrt()

        def groups(by: Literal["layer", "role"]) -> tuple[Stretch, ...]:
            return self._grouped(sums, *self._groupings[by])

        return Position(
            self.models, norm, relative, cosines, (norm, *apart.tolist()), shares, orthogonal, interference, groups
        )

    def _sums(self, c: Float[Tensor, "tensors models"]) -> Float[Tensor, "tensors quantities"]:
        """Of each tensor: |merged|^2, its orthogonal counterpart, <merged, tau_i>, <merged, c_i tau_i>."""
        dots = torch.einsum("tij,tj->ti", self._tasks, c)
        pulls = c * dots
        squared = pulls.sum(1, keepdim=True)
        apart = (c.square() * self._lengths).sum(1, keepdim=True)
        return torch.cat([squared, apart, dots, pulls], 1)

    def _measures(
        self, sums: Float[Tensor, " quantities"], lengths: Float[Tensor, " inputs"]
    ) -> tuple[float, float, tuple[float, ...], tuple[float, ...], float, float]:
        n = len(self.models)
        values, squares = sums.tolist(), lengths.tolist()
        squared, orthogonal = max(0.0, values[0]), sqrt(max(0.0, values[1]))
        norm, base = sqrt(squared), sqrt(max(0.0, squares[0]))
        relative = norm / base if base else inf if norm else 0.0
        cosines = tuple(
            max(-1.0, min(1.0, dot / (norm * sqrt(length)))) if norm * sqrt(max(0.0, length)) else 0.0
            for dot, length in zip(values[2 : 2 + n], squares[1:], strict=True)
        )
        shares = tuple(pull / squared if squared else 0.0 for pull in values[2 + n :])
        return norm, relative, cosines, shares, orthogonal, norm / orthogonal if orthogonal else 1.0

    def _grouped(
        self, sums: Float[Tensor, "tensors quantities"], index: Int[Tensor, " tensors"], groups: Sequence[Group]
    ) -> tuple[Stretch, ...]:
        lengths = torch.cat([self._base[:, None], self._lengths], 1)
        both = torch.cat([sums, lengths], 1)
        total = both.new_zeros(len(groups), both.shape[1]).index_add_(0, index, both)
        found = []
        for group, row in zip(groups, total, strict=True):
            norm, relative, cosines, shares, _, interference = self._measures(
                row[: sums.shape[1]], row[sums.shape[1] :]
            )
            found.append(Stretch(*group, norm, relative, cosines, shares, interference))
        return tuple(found)


def _by_layer(tensors: Sequence[Placed]) -> tuple[Int[Tensor, " tensors"], tuple[Group, ...]]:
    def order(group: Group) -> tuple[str, int]:
        return group[0] or "", -1 if group[1] is None else group[1]

    return _index([(each.stack, each.layer, None) for each in tensors], order)


def _by_role(tensors: Sequence[Placed]) -> tuple[Int[Tensor, " tensors"], tuple[Group, ...]]:
    return _index([(None, None, each.role) for each in tensors], lambda group: group[2] or "")


def _index(groups: Sequence[Group], order: Callable[[Group], Any]) -> tuple[Int[Tensor, " tensors"], tuple[Group, ...]]:
    distinct = tuple(sorted(set(groups), key=order))
    number: Mapping[Group, int] = {group: i for i, group in enumerate(distinct)}
    return torch.tensor([number[group] for group in groups], dtype=torch.int64), distinct
