"""KnOTS: merge task vectors in the one basis that their matrices side by side have."""

from __future__ import annotations

from typing import Literal

from merging.algebra.signs import disjoint_mean, elect_sign, sum_models
from merging.algebra.sparsify import coarse_magnitudes, fine_magnitudes, keep_largest, order_statistics
from merging.algebra.spectra import left_singular
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Number, PerModel, PerModelShare

# Of the largest singular value; the official code cuts at this value itself.
NEGLIGIBLE = 1e-5


def inner_coefficients(*, weight: PerModel, inner: Literal["ties", "sum"], lambda_: Number) -> Float[Tensor, " models"]:
    """The weighted sum of the task vectors, or their weighted mean where the inner rule averages, times lambda."""
    total = float(weight.sum()) if inner == "ties" else 1.0
    return weight * (lambda_ / (total or 1.0))  # type: ignore[no-any-return]


@merge_method("knots", paper="arXiv:2410.19735", sees="task_vectors", reach="matrix", elsewhere=inner_coefficients)
def knots(
    task_vectors: Float[Tensor, "models rows columns"],
    *,
    weight: PerModel = 1.0,
    density: PerModelShare = 0.2,
    inner: Literal["ties", "sum"] = "ties",
    lambda_: Number = 1.0,
) -> Float[Tensor, "rows columns"]:
    """Task vectors written in the left singular vectors of all of them side by side, and merged there by TIES.

    [tau_1 | .. | tau_N] = U diag(s) [V_1 | .. | V_N]^T,  Z_i = diag(s) V_i^T = U^T tau_i
    merged = base + lambda U inner(Z_1 .. Z_N)

    inner "ties" keeps the max(1, int(density n)) largest of the n entries of each Z_i and all that equal the smallest
    of them, elects a sign per entry by sum_i weight_i Z_i, + where that is 0, and takes the weighted mean of what
    agrees; "sum" is sum_i weight_i Z_i, hence task arithmetic. Other tensors: weighted mean or sum, as the inner rule.

    Directions with s <= 1e-5 s_1 are dropped; the official code drops s <= 1e-5, whatever the task vectors' scale. That
    code trims over the whole model at once, and merges adapters, not other tensors. Equal singular values leave U and
    with it the election undetermined. Equal models are a fixed point at density 1.

    Use it for LoRA adapters, whose updates lie in different subspaces and disagree in sign entry by entry; the paper
    keeps 0.1 to 0.3, its configuration for Llama all. For full fine-tunes ties is far cheaper.

    weight: coefficient of each task vector, in the election as well
    density: share of each Z_i's entries that is kept
    inner: how the Z_i are merged
    lambda: scale of the merged task vector

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("knots", torch.tensor([[3.0, 1.0], [1.0, -2.0]]).diag_embed(), torch.zeros(2, 2)).diagonal()
    tensor([ 3., -2.])
    """
    u, s = left_singular(task_vectors)
    u = u[:, : int((~(s <= NEGLIGIBLE * s[:1])).sum())]
    z = task_vectors.new_empty((len(task_vectors), u.shape[1], task_vectors.shape[2]))
    for each, found in zip(task_vectors, z, strict=True):
        found.copy_(u.T @ each.double())
    if inner == "ties" and z.numel():
        z = _trim(z, density).mul_(weight)
        merged = disjoint_mean(z, elect_sign(z), weight)
    else:
        merged = sum_models(z * weight)
    return (u @ merged.double()).mul_(lambda_).float()


def _trim(z: Float[Tensor, "models rows columns"], density: PerModelShare) -> Float[Tensor, "models rows columns"]:
    n = z[0].numel()
    shares = density.flatten().tolist()
    ranks = [0 if share >= 1 else n + 1 if share <= 0 else n + 1 - max(1, int(share * n)) for share in shares]
    wanted = torch.tensor(ranks, device=z.device)[:, None]
    coarse = coarse_magnitudes(z)
    return keep_largest(z, order_statistics(coarse, fine_magnitudes(z, coarse, wanted), wanted)[:, 0])
