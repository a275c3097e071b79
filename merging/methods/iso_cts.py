"""Isotropic merging in a common subspace and one subspace for each task."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from merging.algebra.spectra import NULL, Triplets, polar, svd, top_singular
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.iso_c import weighted_total
from merging.methods.parameters import Kind, Number, PerModel
from merging.methods.tsv_merge import weighted_mean

Shared: TypeAlias = Annotated[float, Kind("number", minimum=0.0, maximum=1.0, key="common_share")]


@merge_method("iso_cts", paper="arXiv:2502.04959", sees="task_vectors", reach="matrix", elsewhere=weighted_mean)
def iso_cts(
    task_vectors: Float[Tensor, "models rows columns"],
    *,
    weight: PerModel = 1.0,
    shared: Shared = 0.8,
    lambda_: Number = 1.0,
) -> Float[Tensor, "rows columns"]:
    """Directions common to the sum of the task vectors and directions special to each, all with one singular value.

    k   = min(rows, columns),  p = round((k - int(common_share k)) / N),  k_c = k - N p
    U_c, s_c, V_c = the first k_c triplets of sum_i weight_i tau_i
    U_i, s_i, V_i = the first p triplets of (I - U_c U_c^T) weight_i tau_i
    merged = base + lambda mean(s_1 .. s_N, s_c) polar([U_1 .. U_N U_c]) polar([V_1 .. V_N V_c])^T

    polar(X) is the matrix with orthonormal columns that is nearest to X. A half is rounded to the even number, as in
    the official code; p is at most k / N, which that code does not see to. With p = 0 this is iso_c. Other tensors:
    base + lambda mean_i weight_i tau_i. Null directions, below 1e-6 of the largest singular value, count in the mean
    and stay zero. Equal models are not a fixed point, as in iso_c.

    Use it instead of iso_c for more than about ten tasks, whose sum no longer holds what is special to each; it costs
    one more decomposition per model. With eight tasks or fewer the two hardly differ.

    weight: coefficient of each task vector
    common_share: share of the directions that are common to all tasks, before rounding
    lambda: scale of the merged task vector

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("iso_cts", torch.tensor([[3.0, 0.0], [0.0, 1.0]]).diag_embed(), torch.zeros(2, 2)).diagonal()
    tensor([2., 2.])
    """
    models, side = len(task_vectors), min(task_vectors.shape[1:])
    special = min(round((side - int(shared * side)) / models), side // models)
    joint = _head(svd(weighted_total(task_vectors, weight)), side - models * special)
    parts = []
    for each, share in zip(task_vectors, weight, strict=True) if special else ():
        x = each.double() * float(share)
        u, s, vt = top_singular(x - joint[0] @ (joint[0].T @ x), special)
        # Where a task vector lies in the common subspace its rest is rounding.
        found = s > NULL * torch.linalg.matrix_norm(x)
        parts.append((u * found, s * found, vt * found[:, None]))
    u, s, vt = (torch.cat(each, axis) for each, axis in zip(zip(*parts, joint, strict=True), (1, 0, 0), strict=True))
    return ((polar(u) @ polar(vt)) * (s.mean() * lambda_)).float()


def _head(triplets: Triplets, k: int) -> Triplets:
    u, s, vt = triplets
    return u[:, :k], s[:k], vt[:k]
