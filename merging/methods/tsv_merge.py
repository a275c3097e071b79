"""Task singular vectors: keep the head of every task vector and make the heads orthogonal to one another."""

from __future__ import annotations

from merging.algebra.spectra import polar, top_singular
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Number, PerModel, Share


def weighted_mean(*, weight: PerModel, lambda_: Number) -> Float[Tensor, " models"]:
    """The mean of the weighted task vectors, times lambda."""
    return weight * (lambda_ / len(weight))  # type: ignore[no-any-return]


@merge_method(
    "tsv_merge",
    paper="arXiv:2412.00081",
    aliases=("singular_vectors",),
    sees="task_vectors",
    reach="matrix",
    elsewhere=weighted_mean,
)
def tsv_merge(
    task_vectors: Float[Tensor, "models rows columns"],
    *,
    weight: PerModel = 1.0,
    rank_share: Share = 1.0,
    lambda_: Number = 1.0,
) -> Float[Tensor, "rows columns"]:
    """Sum of the leading singular triplets of all task vectors, made orthogonal across tasks.

    weight_i tau_i = U_i diag(s_i) V_i^T, cut to the first r = int(rank_share min(rows, columns) / N) triplets
    merged         = base + lambda polar([U_1 .. U_N]) diag(s_1 .. s_N) polar([V_1 .. V_N])^T

    polar(X) is the matrix with orthonormal columns that is nearest to X. Other tensors: base + lambda mean_i weight_i
    tau_i, and matrices as well where there are more models than min(rows, columns), so that r = 0.

    Singular values below 1e-6 of the largest count as zero, and null directions of the stacks stay out of the polar
    factors; the official code fills both with arbitrary vectors. So a zero task vector takes its share of the rank and
    nothing else, and N equal task vectors give the first r triplets of one: not a fixed point unless its rank is r.

    Use it to merge full fine-tunes of many tasks without data, at the paper's lambda of 1; the rank left to each task
    falls with their number. Not for fine-tunes of one task, which it cuts to pieces instead of averaging them.

    weight: coefficient of each task vector
    rank_share: share of the paper's rank, min(rows, columns) / N, that each task keeps
    lambda: scale of the merged task vector

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("tsv_merge", torch.tensor([[3.0, 0.0], [0.0, 1.0]]).diag_embed(), torch.zeros(2, 2)).diagonal()
    tensor([3., 1.])
    """
    rank = int(rank_share * min(task_vectors.shape[1:]) / len(task_vectors))
    scaled = [each.double() * float(share) for each, share in zip(task_vectors, weight, strict=True)]
    if rank == 0:
        return torch.stack(scaled).mean(0).mul_(lambda_).float()
    heads = [top_singular(each, rank) for each in scaled]
    u, s, vt = (torch.cat(parts, axis) for parts, axis in zip(zip(*heads, strict=True), (1, 0, 0), strict=True))
    return ((polar(u) * (s * lambda_)) @ polar(vt)).float()
