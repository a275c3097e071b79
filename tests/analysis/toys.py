"""Small models for analyses: one matrix, orthogonal bases, planted directions."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from merging.analysis.diagnose import Diagnosis, diagnose
from merging.checkpoint.tensors import MemoryCheckpoint
from tests.tiny_shapes import Tensors, normal


def orthogonal(side: int, seed: int) -> Tensor:
    """A random orthogonal matrix in float64."""
    return torch.linalg.qr(normal((side, side), "orthogonal", seed).double())[0]


def matrix_models(shape: tuple[int, ...], models: int, seed: int = 0) -> tuple[Tensors, list[Tensors]]:
    """A base model of one float32 tensor and fine-tunes of it."""
    base = normal(shape, "base", seed)
    tuned = [base + 0.1 * normal(shape, f"tuned {model}", seed) for model in range(models)]
    return {"w.weight": base}, [{"w.weight": each} for each in tuned]


def decaying(rows: int, columns: int, seed: int = 0) -> Tensor:
    """A matrix with singular values 1, 1/2, 1/3, …, as trained ones roughly have."""
    side = min(rows, columns)
    values = 1 / torch.arange(1, side + 1, dtype=torch.float64)
    return (orthogonal(rows, seed)[:, :side] * values) @ orthogonal(columns, seed + 1)[:side]


def exactly_diagnosed(base: Tensors, tuned: list[Tensors]) -> Diagnosis:
    """A diagnosis whose inner products are those of float64."""
    models = [MemoryCheckpoint(each, {}, f"runs/m{i + 1}") for i, each in enumerate(tuned)]
    found = diagnose(models, MemoryCheckpoint(base, {}, "base"), cache=False, workers=1)
    rows = [torch.stack(explicit(base, tuned, each.name)) for each in found.tensors]
    return replace(found, gram=torch.stack([each @ each.T for each in rows]))


def explicit(base: Tensors, tuned: list[Tensors], name: str) -> list[Tensor]:
    """A tensor of the base model and its task vectors, flat, in float64."""
    start = base[name].double().reshape(-1)
    return [start, *(each[name].double().reshape(-1) - start for each in tuned)]
