"""A diagnosis as a value: what one pass over a base model and its fine-tunes measured, and the table it makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from math import isnan
from pathlib import Path
from typing import Any, Literal, NamedTuple

from merging.analysis.magnitudes import lower_ends, squares
from merging.analysis.measures import Sums
from merging.analysis.names import short_names
from merging.analysis.quantities import quantities
from merging.analysis.table import Measurement, Table
from merging.errors import MergingError
from merging.lazy import Float, Int, Tensor, torch

By = Literal["tensor", "layer", "role", "model"]


@dataclass(frozen=True)
class Placed:
    """One tensor of the base model. `layer` counts within `stack`, whose name is "" where there is only one."""

    name: str
    shape: tuple[int, ...]
    entries: int
    stack: str
    layer: int | None
    role: str


class Group(NamedTuple):
    """What a row of a table speaks of; None for what it covers all of."""

    tensor: str | None = None
    stack: str | None = None
    layer: int | None = None
    role: str | None = None


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What a pass measured, tensor by tensor; all of it adds up over tensors but `largest`.

    base        location of the base model
    models      locations of the fine-tuned models, in order; `names` are short for them
    tensors     the tensors that were measured: floats, no buffers, what is tied once
    gram        inner products; index 0 is the base model, then the task vectors
    signs       sum of sign(tau_i) sign(tau_j) over entries; on the diagonal the entries that changed
    shared      entries that both models changed
    disputed    entries that two or more models changed; those of them that some raised and others lowered
    mass        sum of |tau_i| over entries and models; of |sum_i tau_i| over entries
    magnitudes  counts of |tau| in the bins of `merging.analysis.magnitudes`, eight a factor of two; bin 0 exactly zero
    largest     the largest |tau|
    fourth      sum of tau^4
    non_finite  entries that are no finite float32, of the base model, then of the models; left out of all else
    fingerprint of the inputs, the options and the version of the measures
    warnings    what planning noticed: tensors lent by the base model, configs that differ
    """

    base: str
    models: tuple[str, ...]
    tensors: tuple[Placed, ...]
    gram: Float[Tensor, "tensors inputs inputs"]
    signs: Float[Tensor, "tensors models models"]
    shared: Float[Tensor, "tensors models models"]
    disputed: Float[Tensor, "tensors two"]
    mass: Float[Tensor, "tensors two"]
    magnitudes: Int[Tensor, "tensors models bins"]
    largest: Float[Tensor, "tensors models"]
    fourth: Float[Tensor, "tensors models"]
    non_finite: Int[Tensor, "tensors inputs"]
    fingerprint: str
    warnings: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Short names of the models: what distinguishes their locations."""
        return short_names(self.models)

    @property
    def sums(self) -> Sums:
        """All that was measured, tensor by tensor."""
        return Sums(**{field.name: getattr(self, field.name) for field in fields(Sums)})

    @property
    def conflict(self) -> Float[Tensor, "tensors two"]:
        """Share of the entries changed by several models whose signs disagree; share of the mass lost to that.

        0 where nothing changed.
        """
        entries = self.disputed[:, 1] / self.disputed[:, 0].clamp(min=1)
        whole = torch.where(self.mass[:, 0] > 0, self.mass[:, 0], 1.0)
        lost = torch.where(self.mass[:, 0] > 0, 1 - self.mass[:, 1] / whole, 0.0).clamp(min=0.0)
        return torch.stack([entries, lost], 1)

    def table(self, by: By | Sequence[By] = "tensor") -> Table:
        """Every quantity of `quantities.QUANTITIES`, of each tensor, layer, role or of whole models.

        Several words together keep them apart, as `("layer", "role")`. Sums are added before ratios are taken. What is
        not defined, such as the cosine of a task vector that is zero, has no row.

        Raises MergingError for another word.
        """
        groups, sums, entries = self.grouped(by)
        names = self.names
        return Table(tuple(_rows(groups, names, sums, entries)))

    def grouped(self, by: By | Sequence[By] = "tensor") -> tuple[list[Group], Sums, Int[Tensor, " groups"]]:
        """Tensors put together: what each group is, its sums and its number of entries."""
        words = (by,) if isinstance(by, str) else tuple(by)
        if unknown := [word for word in words if word not in ("tensor", "layer", "role", "model")]:
            raise MergingError(f"a diagnosis has no {unknown[0]!r}", must_be="tensor, layer, role, model, or several")
        index: dict[Group, int] = {}
        members = [index.setdefault(_group(tensor, words), len(index)) for tensor in self.tensors]
        if not words or words == ("model",):
            index.setdefault(Group(), 0)
        of = torch.tensor(members, dtype=torch.int64)
        entries = torch.zeros(len(index), dtype=torch.int64)
        entries.index_add_(0, of, torch.tensor([tensor.entries for tensor in self.tensors], dtype=torch.int64))
        return list(index), _summed(self.sums, of, len(index)), entries

    def where(self, tensors: Iterable[str]) -> Diagnosis:
        """The same of some tensors only."""
        wanted = set(tensors)
        kept = [i for i, tensor in enumerate(self.tensors) if tensor.name in wanted]
        held: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        held |= {field.name: held[field.name][kept] for field in fields(Sums)}
        return Diagnosis(**{**held, "tensors": tuple(self.tensors[i] for i in kept)})

    def save(self, path: Path | str) -> None:
        """Write the diagnosis as one safetensors file, whose metadata names models and tensors."""
        from merging.analysis.files import write_diagnosis

        write_diagnosis(self, Path(path))

    @staticmethod
    def load(path: Path | str) -> Diagnosis:
        """Read what `save` wrote. Raises CheckpointError for anything else."""
        from merging.analysis.files import read_diagnosis

        return read_diagnosis(Path(path))


def density_curve(
    diagnosis: Diagnosis, model: int, tensors: Iterable[str] | None = None
) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
    """The share of a task vector's squared norm that its largest entries hold, over the share of entries they are.

    One point for each bin of magnitudes that holds an entry, from (0, 0) to the entries that changed; `tensors` are
    names, all when None. Between points the curve is straight to within the width of a bin.
    """
    chosen = diagnosis if tensors is None else diagnosis.where(tensors)
    _, sums, _ = chosen.grouped("model")
    counts, norm_squared = sums.magnitudes[0, model], sums.gram[0, model + 1, model + 1]
    in_bins = squares(counts, norm_squared, sums.largest[0, model])
    held = [i for i in range(len(lower_ends()) - 1, 0, -1) if counts[i]]
    start = torch.zeros(1, dtype=torch.float64)
    density = torch.cat([start, counts[held].cumsum(0) / counts.sum().clamp(min=1)])
    share = torch.cat([start, in_bins[held].cumsum(0) / torch.where(norm_squared > 0, norm_squared, 1.0)])
    return density.double(), share


def _group(tensor: Placed, words: Sequence[By]) -> Group:
    if "tensor" in words:
        return Group(tensor.name, tensor.stack, tensor.layer, tensor.role)
    role = tensor.role if "role" in words else None
    return Group(None, tensor.stack, tensor.layer, role) if "layer" in words else Group(role=role)


def _summed(sums: Sums, of: Int[Tensor, " tensors"], groups: int) -> Sums:
    held = {}
    for field in fields(Sums):
        value = getattr(sums, field.name)
        if field.name == "largest":
            at = of[:, None].expand_as(value)
            held[field.name] = value.new_zeros(groups, *value.shape[1:]).scatter_reduce_(0, at, value, "amax")
        else:
            held[field.name] = value.new_zeros(groups, *value.shape[1:]).index_add_(0, of, value)
    return Sums(**held)


def _rows(
    groups: Sequence[Group], names: Sequence[str], sums: Sums, entries: Int[Tensor, " groups"]
) -> Iterator[Measurement]:
    base, single, pairs, together = [_lists(found) for found in quantities(sums, entries.double())]
    for at, (group, count) in enumerate(zip(groups, entries.tolist(), strict=True)):
        found: list[tuple[str, str | None, str | None, float]]
        found = [(quantity, None, None, values[at]) for quantity, values in base.items()]
        found += [
            (quantity, name, None, value)
            for quantity, values in single.items()
            for name, value in zip(names, values[at], strict=True)
        ]
        found += [
            (quantity, names[i], names[j], values[at][i][j])
            for quantity, values in pairs.items()
            for i in range(len(names))
            for j in range(i + 1, len(names))
        ]
        found += [(quantity, None, None, values[at]) for quantity, values in together.items()]
        yield from (
            Measurement(*group, quantity, i, j, value, count) for quantity, i, j, value in found if not isnan(value)
        )


def _lists(found: Mapping[str, Tensor]) -> dict[str, Any]:
    return {quantity: values.tolist() for quantity, values in found.items()}
