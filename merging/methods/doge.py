"""DOGE: task arithmetic after a descent that settles the tasks' conflicts outside of what they share."""

from __future__ import annotations

from typing import Literal, TypeAlias

from merging.algebra.projections import conflict_slope, descend, free_slope, shared_directions
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Count, Measured, NonNegative, Number, PerModelShare
from merging.methods.ties_global import TRIM_ROUNDS

Others: TypeAlias = Literal["base", "mean"]
RATE = 1e-4


def elsewhere(*, density: PerModelShare, others: Others, lambda_: Number) -> Float[Tensor, " models"]:
    """The base model's entries, or with `others: mean` the mean of the task vectors, times lambda."""
    return torch.full_like(density, lambda_ / len(density) if others == "mean" else 0.0)


@merge_method(
    "doge",
    paper="arXiv:2501.01230",
    sees="task_vectors",
    reach="matrix",
    measure=TRIM_ROUNDS,
    scope="model",
    elsewhere=elsewhere,
)
def doge(
    task_vectors: Float[Tensor, "models rows columns"],
    *,
    measured: Measured,
    density: PerModelShare = 0.3,  # noqa: ARG001
    length: NonNegative = 0.07,
    subspace: Count = 6,
    steps: Count = 400,
    others: Others = "base",  # noqa: ARG001
    lambda_: Number = 1.0,
) -> Float[Tensor, "rows columns"]:
    """Sum of the trimmed task vectors at one length, after a shift that settles their conflicts.

    l_i    = `length` / |tau_i|   (Frobenius norm of the matrix)
    loss   = sum_j sum_rows (sum_columns tau_j * (tau_j - sum_i l_i (tau_i + shift)))^2
    shift  = from 0, Adam at 1e-4 on the loss, whose gradient g is replaced by g - P P' g
    P      = first int(k / `subspace`) left singular vectors of [U_1 .. U_N], U_i the first int(k / N) of tau_i,
             k = min(rows, columns)
    merged = base + lambda sum_i l_i (tau_i + shift) where |tau_i| is one of the `density` largest of the model, 0 else

    This is DOGE TA as FusionBench has it, where only matrices change and are counted; here the threshold is that of all
    tensors, with its ties and one entry beyond the share. Steps and `length` are absolute: the size of the changes
    matters and equal models are not a fixed point. Zero task vectors are left out. P is arbitrary for one model.

    Use it on an accelerator, or for small models: every step passes over all task vectors. `wudi` has a closed form.

    density: share of each model's entries at which the merged model changes
    length: norm that each task vector has in each matrix
    subspace: the shift keeps clear of the first of so many parts of the left space
    steps: steps of the descent
    others: tensors that are no matrices stay at the base model, or get the mean of the task vectors
    lambda: scale of the merged task vector

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("doge", torch.tensor([[[3.0, 4.0], [0.0, 0.0]]]), torch.zeros(2, 2), density=1.0, steps=1)[0]
    tensor([0.0420, 0.0560])
    """
    norms = torch.linalg.vector_norm(task_vectors, dim=(1, 2), dtype=torch.float64)
    live = (norms != 0).nonzero()[:, 0]
    if not len(live):
        return torch.zeros_like(task_vectors[0])
    x, scales = task_vectors[live].double(), length / norms[live]
    slope = free_slope(conflict_slope(x, scales), shared_directions(x, min(x.shape[1:]) // subspace))
    shift = descend(torch.zeros_like(x[0]), slope, steps, RATE)
    merged = torch.zeros_like(shift)
    thresholds = measured["thresholds"][:, 0] if "thresholds" in measured else torch.zeros(len(task_vectors))
    for each, scale, threshold in zip(x, scales.tolist(), thresholds.to(x)[live], strict=True):
        merged += (each + shift).mul_(each.abs() >= threshold).mul_(scale)
    return (merged * lambda_).to(task_vectors)
