"""Singular value calibration: undo the swelling of directions that several task vectors share."""

from __future__ import annotations

from typing import Literal

from merging.algebra.spectra import NULL, svd
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.iso_c import weighted_total
from merging.methods.parameters import Number, PerModel, Share


def weighted_sum(*, weight: PerModel, lambda_: Number) -> Float[Tensor, " models"]:
    """The sum of the weighted task vectors, times lambda."""
    return weight * lambda_  # type: ignore[no-any-return]


@merge_method("svc", paper="arXiv:2602.05536", sees="task_vectors", reach="matrix", elsewhere=weighted_sum)
def svc(
    task_vectors: Float[Tensor, "models rows columns"],
    *,
    weight: PerModel = 1.0,
    floor: Share = 0.1,
    variant: Literal["paper", "code"] = "paper",
    lambda_: Number = 1.0,
) -> Float[Tensor, "rows columns"]:
    """Weighted sum of the task vectors, each singular value divided by how much the tasks add up along it.

    sum_i weight_i tau_i = U diag(s) V^T,  a_r = u_r^T sum_i weight_i tau_i,  a_ri = u_r^T sign(weight_i) tau_i
    h_ri   = <a_r, a_ri> / |a_ri|^2
    merged = base + lambda U diag(gamma s) V^T,  gamma_r = N / sum_i max(floor, h_ri)

    Other tensors: the plain weighted sum. Models with weight 0, and task vectors without a component along u_r (below
    1e-6 of their largest), take no part in gamma_r and in its N; the paper leaves 0 / 0 open. The official code has
    gamma_r = 1 / max(floor, mean_i h_ri) where every h_ri > 0, and 1 elsewhere (`variant: code`). A common factor of
    all weights cancels where the floor is not reached. Equal models are a fixed point at any positive equal weights.

    Use it in place of task_arithmetic when tasks are related and their sum overshoots; the paper's floor is 0.1 to 1.
    Not for unrelated tasks: a task that barely moves along u_r has a huge or tiny h_ri there.

    weight: coefficient of each task vector in the sum; only its sign enters the calibration
    floor: smallest share that a task can have in a direction; the paper's alpha
    variant: paper averages max(floor, h), code has the floor under the average and spares directions of conflict
    lambda: scale of the merged task vector

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("svc", torch.tensor([[2.0, 1.0], [2.0, 1.0]]).diag_embed(), torch.zeros(2, 2)).diagonal()
    tensor([2., 1.])
    """
    total = weighted_total(task_vectors, weight)
    u, s, vt = svd(total)
    shares, present = [], []
    for each, sign in zip(task_vectors, weight.flatten().sign().tolist(), strict=True):
        rows = (u.T @ each.double()) * sign
        lengths = torch.linalg.vector_norm(rows, dim=1)
        found = lengths > NULL * lengths.amax()
        present.append(found)
        # <a_r, a_ri> = s_r <v_r, a_ri>.
        shares.append(torch.where(found, s * (rows * vt).sum(1) / lengths.square().where(found, 1.0), torch.nan))
    gamma = _calibration(torch.stack(shares), torch.stack(present), floor, variant)
    return ((u * (s * gamma * lambda_)) @ vt).float()


def _calibration(
    shares: Float[Tensor, "models directions"], present: Tensor, floor: float, variant: str
) -> Float[Tensor, " directions"]:
    count = present.sum(0).clamp(min=1)
    if variant == "code":
        agreeing = ((shares > 0) | ~present).all(0)
        return torch.where(agreeing, 1 / (shares.nansum(0) / count).clamp(min=floor), 1.0)
    summed = shares.clamp(min=floor).nansum(0)
    return torch.where(summed > 0, count / summed, 1.0)
