"""TIES as its paper has it: one threshold per model, over all its tensors together."""

from __future__ import annotations

from typing import Literal

from merging.algebra.signs import disjoint_max, disjoint_mean, disjoint_sum, elect_sign, sum_models
from merging.algebra.sparsify import keep_largest
from merging.lazy import Float, Int, Tensor, torch
from merging.methods.declare import merge_method, only_if
from merging.methods.parameters import Flag, Measured, Number, PerModel, PerModelShare
from merging.methods.ranks import rank_rounds


def smallest_kept(counts: Int[Tensor, "models one"], *, density: PerModelShare) -> Int[Tensor, "models one"]:
    """Ascending rank of the smallest entry kept; 0 keeps all."""
    pairs = zip(counts[:, 0].tolist(), density.flatten().tolist(), strict=True)
    return torch.tensor([n - int(n * share) for n, share in pairs], device=counts.device)[:, None]


TRIM_ROUNDS = tuple(only_if("density", step) for step in rank_rounds("thresholds", smallest_kept))


def balance(x: Float[Tensor, "models n"], *, measured: Measured, weight: PerModel) -> Float[Tensor, ""]:
    """Last round: how many more entries elect + than -."""
    return sum_models(_trim(x, measured, weight)).sign_().sum(dtype=torch.float64)


@merge_method(
    "ties_global",
    paper="arXiv:2306.01708",
    sees="task_vectors",
    reach="element",
    measure=(*TRIM_ROUNDS, balance),
    scope="model",
)
def ties_global(
    task_vectors: Float[Tensor, "models *shape"],
    *,
    measured: Measured,
    weight: PerModel = 1.0,
    density: PerModelShare = 0.2,  # noqa: ARG001
    aggregate: Literal["mean", "sum", "max"] = "mean",
    normalize: Flag = True,
    lambda_: Number = 1.0,
) -> Float[Tensor, "*shape"]:
    """Trim over the whole model, elect, disjoint mean.

    trimmed_i = entries of tau_i that reach its (n - int(n density))-th smallest magnitude, n over all tensors; else 0
    sign      = sign(sum_i weight_i trimmed_i); where that is 0 the sign that most entries elect, - if neither leads
    merged    = base + lambda sum_i weight_i trimmed_i / sum_i weight_i,  over the i whose weight_i trimmed_i has `sign`

    The threshold is the paper's code's, which keeps one entry more than the share, and all that equal it; density 1
    keeps everything. Weights of 1 give the paper's mean over the number of agreeing models. Its other two aggregations
    are the sum, and the weight_i trimmed_i of largest magnitude among those that agree. Small tensors with large
    changes, biases and norms, survive here and are cut by `ties`.

    Use it as the paper's TIES: one threshold keeps more of the tensors that changed more. `ties` agrees with mergekit.

    weight: coefficient of each task vector, in the vote as well
    density: share of all the model's entries that is kept
    aggregate: what is made of the changes that agree: their mean, sum, or the largest
    normalize: divide the mean by the sum of the agreeing weights; without, it is the sum
    lambda: scale of the merged task vector; the paper searches 0.8 to 2.5

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("ties_global", torch.tensor([[3.0, 1.0, 2.0], [1.0, -2.0, 0.5]]), torch.zeros(3), density=0.4)
    tensor([ 2., -2.,  2.])
    """
    trimmed = _trim(task_vectors, measured, weight)
    sign = elect_sign(trimmed, tie=1 if float(measured["balance"]) > 0 else -1)
    if aggregate == "max":
        return disjoint_max(trimmed, sign).mul_(lambda_)
    divides = normalize and aggregate == "mean"
    merged = disjoint_mean(trimmed, sign, weight) if divides else disjoint_sum(trimmed, sign)
    return merged.mul_(lambda_)


def _trim(x: Float[Tensor, "models *shape"], measured: Measured, weight: PerModel) -> Float[Tensor, "models *shape"]:
    kept = keep_largest(x, measured["thresholds"][:, 0]) if "thresholds" in measured else x.clone()
    return kept.mul_(weight)
