"""Whole-model rounds over several tensors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from merging.methods.application import Application
from merging.methods.declare import reads


def measured_together(use: Application, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """The sums of all rounds over the tensors, as the engine hands them on."""
    measured: dict[str, Tensor] = {}
    for step in use.rounds:
        if reads(step):
            measured[step.__name__] = sum(use.measure(step, x.reshape(len(x), -1), measured) for x in tensors)
        else:
            measured[step.__name__] = use.work_out(step, measured)
    return measured
