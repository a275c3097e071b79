"""Diagnoses of models of one or a few vectors, and their comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from merging.analysis.diagnose import Diagnosis, diagnose
from merging.analysis.measures import Sums
from merging.checkpoint.tensors import MemoryCheckpoint
from tests.tiny_shapes import normal

FIELDS = list(Sums.__dataclass_fields__)


def of_tensors(base: Mapping[str, Tensor], models: Sequence[Mapping[str, Tensor]], **options: Any) -> Diagnosis:
    opened = [MemoryCheckpoint(model, location=f"m{i}") for i, model in enumerate(models)]
    return diagnose(opened, MemoryCheckpoint(base, location="base"), cache=False, **options)


def vectors(models: int, entries: int = 1000, dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Tensor]:
    """A base model and fine-tunes with heavy tails, shared changes and many entries left alone."""
    base = 0.05 * normal((entries,), "base", seed)
    shared = normal((entries,), "shared", seed)
    tuned = []
    for i in range(models):
        own = normal((entries,), f"own {i}", seed)
        kept = normal((entries,), f"kept {i}", seed) > -0.5
        tuned.append((base + 0.002 * (own**3 + 0.3 * shared) * kept).to(dtype))
    return [base.to(dtype), *tuned]


def equal(one: Diagnosis, other: Diagnosis) -> bool:
    return all(torch.equal(getattr(one, field), getattr(other, field)) for field in FIELDS)
