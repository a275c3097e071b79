"""OPCM: models are merged one after another, each with what is new in it."""

from __future__ import annotations

from math import sqrt
from typing import Annotated, TypeAlias

from merging.algebra.geometry import squared_norms
from merging.algebra.projections import leading_rank, remove_directions
from merging.algebra.spectra import svd
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import Earlier, merge_method
from merging.methods.parameters import Kind, Measured, NonNegative, Number, Share

Held: TypeAlias = Annotated[int, Kind("count", minimum=0)]


def squared_length(merged: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Sum of squares of Y, over the whole model."""
    return squared_norms(merged[None])[0]


def mean_norm(norms: list[float], earlier: int, earlier_norm: float) -> float:
    """The mean n of the lengths of all task vectors; the first one may stand for several."""
    first = max(earlier, 1) * (earlier_norm if earlier and earlier_norm else norms[0])
    return (first + sum(norms[1:])) / (max(earlier, 1) + len(norms) - 1)


def restore_mean_length(
    merged: Float[Tensor, "..."], total: Tensor, *, measured: Measured, earlier: Held, earlier_norm: NonNegative
) -> Float[Tensor, "..."]:
    """Y / lambda, which is as long as the task vectors are on average."""
    mean = mean_norm(measured["squared_norms"].sqrt().tolist(), earlier, earlier_norm)
    return merged * (mean / (sqrt(float(total)) or 1.0))


def unprojected(*, measured: Measured, earlier: Held, earlier_scale: Number) -> Float[Tensor, " models"]:
    """The plain sum of the task vectors, scaled at the end like the matrices."""
    ones = torch.ones_like(measured["squared_norms"])
    return torch.cat([ones[:1] * (earlier_scale if earlier else 1.0), ones[1:]])


def taken_up(merge: Earlier) -> dict[str, float]:
    """The parameters with which a merge goes on where it ended."""
    values = merge.parameters
    mean = mean_norm([*merge.norms], values["earlier"], values["earlier_norm"])
    held = max(values["earlier"], 1) + len(merge.norms) - 1
    return {**values, "earlier": held, "earlier_scale": merge.length / mean, "earlier_norm": mean}


@merge_method(
    "opcm",
    paper="arXiv:2501.09522",
    sees="task_vectors",
    reach="matrix",
    order="sequential",
    scope="model",
    measure=(squared_norms,),
    finish=(squared_length, restore_mean_length),
    elsewhere=unprojected,
    kernels=False,
    continued=taken_up,
)
def opcm(
    state: Float[Tensor, "rows columns"] | None,
    x: Float[Tensor, "rows columns"],
    *,
    projection: Share = 0.5,
    earlier: Held = 0,
    earlier_scale: Number = 1.0,
    earlier_norm: NonNegative = 0.0,  # noqa: ARG001
) -> Float[Tensor, "rows columns"]:
    """Sum of the task vectors, each without what lies in the directions of the sum so far, at their mean length.

    Y      = tau_1;  then for each next model, with Y = U diag(s) V' and P = U' tau V,
    Y      = Y + U P V'  once all P_ii are set to 0, and all P_ij with i, j <= r
    merged = base + Y / lambda,  lambda = |Y| / n over the whole model, n = mean_i |tau_i|

    Only linear layers are projected; of other tensors, also of kernels, Y is the plain sum. One scaling at the end is
    as good as one after each model. r is the official code's: as many singular values as make up at most the share
    `projection` of their sum, none at 1. Nothing is removed where s_i <= 1e-6 s_1: those vectors are arbitrary.

    Use it when models arrive one by one: `merging continue` adds one to a result, the first model then, which holds
    `earlier` ones: there the size of the changes matters and equal models are not a fixed point. The order of the
    models matters a little. Where all are at hand, methods that see their singular vectors together score higher.

    projection: share of the sum of singular values whose directions are closed to the next model; the paper's alpha
    earlier: how many models the first one was merged from by this method; 0 for an ordinary model
    earlier_scale: lambda of that merge
    earlier_norm: n of that merge; 0 takes the norm of its task vector, the same but for rounding

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("opcm", torch.tensor([[[2.0, 0.0], [0.0, 0.0]], [[0.0, 2.0], [0.0, 0.0]]]), torch.zeros(2, 2))[0]
    tensor([1.4142, 1.4142])
    """
    if state is None:
        return x * earlier_scale if earlier else x.clone()
    u, s, vt = svd(state)
    return state + remove_directions(x, u, s, vt, leading_rank(s, projection))
