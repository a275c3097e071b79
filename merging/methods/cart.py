"""CART: the mean of the models plus the leading directions in which each one leaves it."""

from __future__ import annotations

from math import ceil

from merging.algebra.spectra import top_singular
from merging.lazy import Float, Tensor
from merging.methods.declare import merge_method
from merging.methods.iso_c import weighted_total
from merging.methods.parameters import Number, PerModel, Share
from merging.methods.tsv_merge import weighted_mean


@merge_method("cart", paper="arXiv:2412.12153", sees="task_vectors", reach="matrix", elsewhere=weighted_mean)
def cart(
    task_vectors: Float[Tensor, "models rows columns"],
    *,
    weight: PerModel = 1.0,
    rank_share: Share = 0.04,
    task_scale: Number = 0.1,
    lambda_: Number = 1.0,
) -> Float[Tensor, "rows columns"]:
    """Mean of the task vectors plus the leading singular triplets of every one centred at it.

    mean   = mean_i weight_i tau_i,  k = ceil(rank_share min(rows, columns))
    merged = base + lambda (mean + task_scale sum_i rank_k(weight_i tau_i - mean))

    rank_k keeps the k largest singular values. Other tensors: base + lambda mean. Equal models are a fixed point at
    weight 1; with weights that add up to 1 they are not a fixed point, as the mean divides by N once more. Two models
    give their mean whatever the rank: what is centred at it has opposite signs and cancels.

    Use it as a plain average that keeps more of each task, for three models or more; the official code's rank share is
    0.04, the paper goes up to 0.32, and `task_scale`, its lambda, must be tuned. Not where no data are at hand to tune
    with: tsv_merge and iso_c are safer there.

    weight: coefficient of each task vector
    rank_share: share of the rank that is kept of each centred task vector
    task_scale: scale of the centred parts; the paper's lambda
    lambda: scale of the merged task vector

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("cart", torch.tensor([[5.0, 1], [1, 4], [0, 1]]).diag_embed(), torch.zeros(2, 2)).diagonal()
    tensor([2.1000, 2.2000])
    """
    mean = weighted_total(task_vectors, weight).div_(len(task_vectors))
    rank = ceil(rank_share * min(mean.shape))
    merged = mean.clone()
    for each, share in zip(task_vectors, weight, strict=True) if rank and task_scale else ():
        u, s, vt = top_singular(each.double() * float(share) - mean, rank)
        merged.addmm_(u * s, vt, alpha=task_scale)
    return merged.mul_(lambda_).float()
