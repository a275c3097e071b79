"""Core space: low-rank task vectors merged in the small space that they all share."""

from __future__ import annotations

from typing import Literal, TypeAlias

from merging.algebra.signs import disjoint_mean, elect_sign, sum_models, sum_scale
from merging.algebra.spectra import left_singular, svd
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Flag, Number, PerModel, Share

Inner: TypeAlias = Literal["sum", "ties"]


def combined(*, weight: PerModel, inner: Inner, lambda_: Number) -> Float[Tensor, " models"]:
    """The weighted sum of the task vectors for `sum`, their weighted mean for `ties`, times lambda."""
    return weight * sum_scale(weight, inner == "ties", lambda_)  # type: ignore[no-any-return]


@merge_method("core_space", paper="arXiv:2509.17786", sees="task_vectors", reach="matrix", elsewhere=combined)
def core_space(
    task_vectors: Float[Tensor, "models rows columns"],
    *,
    weight: PerModel = 1.0,
    inner: Inner = "ties",
    density: Share = 0.1,
    isotropic: Flag = False,
    rank_tolerance: Share = 1e-5,
    lambda_: Number = 1.0,
) -> Float[Tensor, "rows columns"]:
    """Merge of the task vectors' cores, small matrices between the bases of all their columns and of all their rows.

    U      = left singular vectors of [tau_1 .. tau_N] side by side,  V' = right ones of the tau_i on top of each other
    M_i    = U' tau_i V,  at most N r x N r for task vectors of rank r
    M      = sum_i weight_i M_i (`sum`), or trimmed, elected and averaged as in `ties_global`, each matrix by itself
    merged = base + lambda U M V'

    Nothing is lost: U M_i V' = tau_i, but for singular values up to `rank_tolerance` of the largest. So `sum` is task
    arithmetic; what gains is an entrywise rule, for which the bases line up what the tasks share. The paper decomposes
    stacks of LoRA factors B_i and A_i. Task vectors are whole here, so that fine-tunes of any rank can be merged, and a
    direction weighs what it does in tau_i rather than in a factor, whose scale is arbitrary. The core of a full-rank
    task vector is as large as itself. `isotropic` sets all singular values of M, zeros aside, to their mean, so that
    equal models are not a fixed point.

    Use it to merge LoRA adapters, with `ties` inside; the paper finds it ahead of the same rule on the weights.

    weight: coefficient of each task vector, in the vote as well
    inner: how cores are merged
    density: share of each core's entries that `ties` keeps; the paper's code keeps 0.1
    isotropic: flatten the merged core's singular values
    rank_tolerance: singular values up to this share of the largest count as zero, as do those up to 1e-6 of it
    lambda: scale of the merged task vector

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("core_space", torch.ones(1, 2, 2), torch.zeros(2, 2), weight=[2.0], inner="sum")[0]
    tensor([2., 2.])
    """
    left = _basis(task_vectors, rank_tolerance)
    right = _basis(task_vectors.mT, rank_tolerance)
    cores = left.T @ task_vectors.double() @ right
    merged = sum_models(cores * weight) if inner == "sum" else _ties(cores, weight, density)
    if isotropic:
        u, s, vt = svd(merged)
        merged = u @ vt * (s.sum() / max(1, int(s.count_nonzero())))
    return (left @ merged @ right.T * lambda_).to(task_vectors)


def _basis(x: Float[Tensor, "models rows columns"], tolerance: float) -> Float[Tensor, "rows rank"]:
    u, s = left_singular(x)
    return u[:, : int((~(s <= tolerance * s.amax())).sum())] if len(s) else u


def _ties(cores: Float[Tensor, "models rows columns"], weight: Tensor, density: float) -> Tensor:
    """Trim each core to its int(n density) + 1 largest entries, elect, disjoint mean."""
    entries = cores[0].numel()
    rank = entries - int(entries * density)
    trimmed = torch.zeros_like(cores)
    for core, kept in zip(cores, trimmed, strict=True):
        threshold = core.abs().flatten().kthvalue(rank).values if rank and entries else 0.0
        torch.mul(core, core.abs() >= threshold, out=kept)
    trimmed *= weight
    return disjoint_mean(trimmed, elect_sign(trimmed), weight.double())
