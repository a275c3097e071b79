"""STAR: cut the tail of every task vector's spectrum and restore its nuclear norm."""

from __future__ import annotations

from merging.algebra.spectra import svd
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Number, PerModel, Share
from merging.methods.tsv_merge import weighted_mean


@merge_method("star", paper="arXiv:2502.10339", sees="task_vectors", reach="matrix", elsewhere=weighted_mean)
def star(
    task_vectors: Float[Tensor, "models rows columns"],
    *,
    weight: PerModel = 1.0,
    eta: Share = 0.4,
    lambda_: Number = 1.0,
) -> Float[Tensor, "rows columns"]:
    """Mean of the task vectors, each cut to its leading singular values and scaled back to its nuclear norm.

    tau_i  = U diag(s) V^T,  r = smallest rank with s_1 + .. + s_r >= eta sum(s), at least 1
    star_i = sum(s) / (s_1 + .. + s_r) (the first r triplets of tau_i)
    merged = base + lambda mean_i weight_i star_i

    Other tensors: base + lambda mean_i weight_i tau_i. The paper gives eta in percent, 40 for all its models. A zero
    task vector stays zero. Equal models are not a fixed point: what is cut is not restored.

    Use it for many fine-tunes of one base model when no data are at hand to tune with; the paper has one value of its
    one parameter for all. Not where task vectors have a flat spectrum, of which the cut keeps an arbitrary part.

    weight: coefficient of each task vector
    eta: share of each nuclear norm that is kept before scaling
    lambda: scale of the merged task vector

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("star", torch.tensor([[3.0, 1.0]]).diag_embed(), torch.zeros(2, 2)).diagonal()
    tensor([4., 0.])
    """
    merged = task_vectors.new_zeros(task_vectors.shape[1:], dtype=torch.float64)
    for each, share in zip(task_vectors, weight, strict=True):
        merged += _cut(each, eta) * float(share)
    return merged.mul_(lambda_ / len(task_vectors)).float()


def _cut(x: Float[Tensor, "rows columns"], eta: float) -> Float[Tensor, "rows columns"]:
    u, s, vt = svd(x)
    sums = s.cumsum(0)
    if not bool(sums[-1] != 0):
        return torch.zeros_like(x, dtype=torch.float64)
    rank = min(int(torch.searchsorted(sums, eta * sums[-1])) + 1, len(s))
    return (u[:, :rank] * (s[:rank] * (sums[-1] / sums[rank - 1]))) @ vt[:rank]
