"""Isotropic merging: the sum of the task vectors with one value in place of all its singular values."""

from __future__ import annotations

from merging.algebra.spectra import svd
from merging.lazy import Float, Tensor
from merging.methods.declare import merge_method
from merging.methods.parameters import Number, PerModel
from merging.methods.tsv_merge import weighted_mean


def weighted_total(
    task_vectors: Float[Tensor, "models rows columns"], weight: Float[Tensor, "models one one"]
) -> Float[Tensor, "rows columns"]:
    """Sum of the weighted task vectors, in float64."""
    total = task_vectors[0].double() * float(weight[0])
    for each, share in zip(task_vectors[1:], weight[1:], strict=True):
        total.add_(each, alpha=float(share))
    return total


@merge_method("iso_c", paper="arXiv:2502.04959", sees="task_vectors", reach="matrix", elsewhere=weighted_mean)
def iso_c(
    task_vectors: Float[Tensor, "models rows columns"], *, weight: PerModel = 1.0, lambda_: Number = 1.0
) -> Float[Tensor, "rows columns"]:
    """Sum of the task vectors with every singular value replaced by their mean.

    sum_i weight_i tau_i = U diag(s) V^T
    merged               = base + lambda mean(s) U V^T,    mean(s) = sum(s) / min(rows, columns)

    Other tensors: base + lambda mean_i weight_i tau_i. Directions with s below 1e-6 of the largest are null: they count
    in the mean and stay zero, where the paper's code raises arbitrary ones to mean(s). Equal models are not a fixed
    point: flattening the spectrum is the method, and N equal task vectors are summed first.

    Use it for full fine-tunes of several tasks, where a few shared directions drown the others; the paper's lambda
    is 1, that of FusionBench 1.5. Not for low-rank updates stored in few bits: rounding fills their null space with
    small singular values, which are raised like all others.

    weight: coefficient of each task vector
    lambda: scale of the merged task vector

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("iso_c", torch.tensor([[3.0, 0.0], [0.0, 1.0]]).diag_embed(), torch.zeros(2, 2)).diagonal()
    tensor([2., 2.])
    """
    u, s, vt = svd(weighted_total(task_vectors, weight))
    return ((u @ vt) * (s.mean() * lambda_)).float()
