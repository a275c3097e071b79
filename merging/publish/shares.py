"""What each layer of a merge got from each model, read from the ledger.

Methods that add task vectors to a base model: a model's share of a tensor is its part of the change, by length for sums
of task vectors, by inner product with the merged change for all other methods. It is negative where the merge moved
against the model's own change: a negative weight, or a conflict that the others won. Shares of one tensor have absolute
sum 1; a layer's is their mean, each tensor weighted by the square of how far it moved.

Methods without a base model: a model's share is its part of the weights, and tensors are weighted by their entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import copysign, prod, sqrt
from typing import Any, Literal

from merging.families.family import Family, Place, recognise

Kind = Literal["merged", "copied", "still"]
_LARGEST = 1e100
EMBEDDING, HEAD, REST = "embedding", "head", "rest"


@dataclass(frozen=True, slots=True)
class Column:
    """One layer, or what stands outside the layers. `label` is the layer's number or one of EMBEDDING, HEAD, REST.

    kind    merged: a share for every model; copied: tensors taken over unchanged, shares by entries; still: no model
            differs from the base model here
    change  root mean square of the merged change of an entry; None without a base model
    """

    stack: str
    label: str
    kind: Kind
    shares: Mapping[int, float]
    change: float | None
    tensors: int


@dataclass(frozen=True, slots=True)
class Shares:
    """Columns from the first layer to the last, the models that take part in the order of the record, and totals."""

    columns: tuple[Column, ...]
    models: tuple[int, ...]
    totals: Mapping[int, float]
    of_changes: bool

    @property
    def has_opposed(self) -> bool:
        """Whether the merge moved against some model's change somewhere."""
        return any(share < 0 for column in self.columns for share in column.shares.values())


@dataclass
class _Sum:
    """What is added up over the tensors of a column, or of the whole model."""

    merged: dict[int, float] = field(default_factory=dict)
    merged_weight: float = 0.0
    copied: dict[int, float] = field(default_factory=dict)
    square: float = 0.0
    entries: int = 0
    based: int = 0
    merges: int = 0
    tensors: int = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one ledger row."""
        entries = prod(row["shape"])
        self.tensors += 1
        if row["rule"] != "merge":
            source = row["operands"][0]["model"]
            self.copied[source] = self.copied.get(source, 0.0) + entries
            return
        square = _finite(row["merged_norm"]) ** 2
        self.merges += 1
        if row["base"]:
            self.based += 1
            self.square += square
            self.entries += entries
        weight = square if row["base"] else float(entries)
        parts = _parts(row)
        if parts and weight:
            self.merged_weight += weight
            for model, part in parts.items():
                self.merged[model] = self.merged.get(model, 0.0) + weight * part

    def column(self, stack: str, label: str) -> Column:
        """The column of these tensors."""
        change = sqrt(self.square / self.entries) if self.entries else None
        return Column(stack, label, self._kind(), self.shares(), change, self.tensors)

    def shares(self) -> dict[int, float]:
        """Every model's share: of the change where there is a base model, else of all weights, copied ones included."""
        merged, copied = (self.merged, {} if self.based else self.copied)
        whole = self.merged_weight + sum(copied.values())
        models = sorted({*merged, *copied})
        return {each: (merged.get(each, 0.0) + copied.get(each, 0.0)) / whole for each in models} if whole else {}

    def _kind(self) -> Kind:
        if self.merged_weight:
            return "merged"
        return "still" if self.merges else "copied"


def read_shares(ledger: Sequence[Mapping[str, Any]], config: Mapping[str, Any] | None = None) -> Shares:
    """The shares in a ledger; `config` is the merged model's, which tells its family."""
    family = recognise(config or {}, [str(row["tensor"]) for row in ledger])
    sums: dict[tuple[str, str], _Sum] = {}
    whole = _Sum()
    models: set[int] = set()
    for row in ledger:
        sums.setdefault(_key(family.place(row["tensor"])), _Sum()).add(row)
        whole.add(row)
        models |= _taking_part(row)
    columns = tuple(sums[key].column(*key) for key in _ordered(family, sums))
    return Shares(columns, tuple(sorted(models)), whole.shares(), whole.based > 0)


def _taking_part(row: Mapping[str, Any]) -> set[int]:
    operands = row["operands"] if row["rule"] == "merge" else row["operands"][:1]
    return {operand["model"] for operand in operands}


def _parts(row: Mapping[str, Any]) -> dict[int, float]:
    """Every model's signed part of one merged tensor, of absolute sum 1; none where nothing can be told."""
    parts: dict[int, float] = {}
    for operand in row["operands"]:
        coefficient = operand.get("coefficient")
        share = _finite(operand.get("share"))
        if coefficient is not None:
            # Without a base model lengths are measured from the first model, whose own is then 0.
            share = copysign(share, coefficient) if row["base"] else _finite(coefficient)
        parts[operand["model"]] = parts.get(operand["model"], 0.0) + share
    whole = sum(map(abs, parts.values()))
    return {model: part / whole for model, part in parts.items()} if whole else {}


def _finite(value: Any) -> float:
    """A number of the ledger; 0 where it is none that float32 entries can add up to."""
    return float(value) if isinstance(value, int | float) and abs(value) < _LARGEST else 0.0


def _key(place: Place) -> tuple[str, str]:
    if place.layer is not None:
        return place.stack, str(place.layer)
    if place.part == "before":
        return "", EMBEDDING
    return "", HEAD if place.role.startswith(("head", "classifier", "projection")) else REST


def _ordered(family: Family, keys: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Embeddings, the layers of each stack in turn, what is left, the head."""
    # A decoder reads what an encoder made, whichever stands first among the names.
    in_order = sorted(family.stacks, key=lambda stack: stack == "decoder")
    stacks = {stack: position for position, stack in enumerate(in_order)}
    outside = {EMBEDDING: -1, REST: len(stacks), HEAD: len(stacks) + 1}

    def order(key: tuple[str, str]) -> tuple[int, int]:
        stack, label = key
        return (outside[label], 0) if label in outside else (stacks.get(stack, 0), int(label))

    return sorted(keys, key=order)
