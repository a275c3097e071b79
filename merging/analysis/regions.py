"""Regions of a network as people name them: attention or MLPs of a run of layers, embeddings, the output head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import NamedTuple

from merging.analysis.blocks import Part, part_of
from merging.analysis.diagnosis import Diagnosis, Placed
from merging.analysis.measures import Sums

# Parts as a person says them.
SPOKEN: Mapping[Part, str] = {
    "attention": "attention",
    "mlp": "MLPs",
    "norm": "norms",
    "embedding": "embeddings",
    "head": "output head",
    "other": "other tensors",
}


class Cell(NamedTuple):
    """One part of one layer; `layer` None outside the layers."""

    part: str
    stack: str
    layer: int | None


class Run(NamedTuple):
    """One part of consecutive layers, from `first` to `last`; both None outside the layers."""

    part: str
    stack: str
    first: int | None
    last: int | None
    cells: tuple[Cell, ...]


class Cells:
    """The tensors of a diagnosis by parts of layers, and sums over any of them."""

    def __init__(self, diagnosis: Diagnosis):
        self._members: dict[Cell, list[int]] = {}
        for i, tensor in enumerate(diagnosis.tensors):
            self._members.setdefault(_cell(tensor), []).append(i)
        self._sums = diagnosis.sums
        self._layers: dict[str, int] = {}
        for tensor in diagnosis.tensors:
            if tensor.layer is not None:
                self._layers[tensor.stack] = max(tensor.layer + 1, self._layers.get(tensor.stack, 0))

    def sums(self, cells: Sequence[Cell]) -> Sums:
        """The sums of all tensors in some cells, with one leading axis of length one."""
        at = [i for cell in cells for i in self._members[cell]]
        held = {}
        for field in fields(Sums):
            value = getattr(self._sums, field.name)[at]
            held[field.name] = value.amax(0, keepdim=True) if field.name == "largest" else value.sum(0, keepdim=True)
        return Sums(**held)

    def all(self) -> list[Cell]:
        """Every cell, in the order of the tensors."""
        return list(self._members)

    def runs(self, wanted: Callable[[Sums], bool]) -> list[Run]:
        """Runs of consecutive layers in each part whose every cell is wanted."""
        chosen = [cell for cell in self._members if wanted(self.sums([cell]))]
        found: list[Run] = []
        for part, stack in dict.fromkeys((cell.part, cell.stack) for cell in chosen):
            own = sorted(
                (cell for cell in chosen if (cell.part, cell.stack) == (part, stack)),
                key=lambda cell: -1 if cell.layer is None else cell.layer,
            )
            found += _consecutive(own)
        return found

    def where(self, run: Run) -> str:
        """As a person says it: "attention of layers 18-23"."""
        if run.first is None or run.last is None:
            return f"the {run.part}"
        if self._layers[run.stack] == run.last - run.first + 1 > 1:
            layers = f"all {run.stack} layers" if run.stack else "all layers"
        else:
            layers = f"{run.stack} ".lstrip() + spelled(run.first, run.last)
        return f"{run.part} of {layers}"

    def count(self, stack: str) -> int:
        """Number of layers of a stack."""
        return self._layers.get(stack, 0)


def stretches(layers: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of every run of consecutive layers; they come in ascending order.

    >>> stretches([0, 1, 2, 5])
    [(0, 2), (5, 5)]
    """
    found: list[tuple[int, int]] = []
    for layer in layers:
        if found and layer == found[-1][1] + 1:
            found[-1] = (found[-1][0], layer)
        else:
            found.append((layer, layer))
    return found


def spelled(first: int, last: int) -> str:
    """A run of layers.

    >>> spelled(3, 3), spelled(3, 5)
    ('layer 3', 'layers 3-5')
    """
    return f"layer {first}" if first == last else f"layers {first}-{last}"


def _cell(tensor: Placed) -> Cell:
    return Cell(SPOKEN[part_of(tensor)], tensor.stack, tensor.layer)


def _consecutive(cells: Sequence[Cell]) -> list[Run]:
    runs: list[list[Cell]] = []
    for cell in cells:
        before = runs[-1][-1].layer if runs else None
        if before is not None and cell.layer == before + 1:
            runs[-1].append(cell)
        else:
            runs.append([cell])
    return [Run(run[0].part, run[0].stack, run[0].layer, run[-1].layer, tuple(run)) for run in runs]
