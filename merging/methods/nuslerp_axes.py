"""Spherical interpolation of two models or of two task vectors, every row or column by itself."""

from __future__ import annotations

from math import prod

from merging.algebra.geometry import arc_coefficients, gram_along, pair_cosines
from merging.lazy import Float, Tensor
from merging.methods.declare import merge_method
from merging.methods.nuslerp import SHORTEST, second_share
from merging.methods.parameters import Flag, PerModel


@merge_method("nuslerp_axes", paper="arXiv:2403.13257", sees="models", reach="tensor", base="optional", inputs=(2, 2))
def nuslerp_axes(
    models: Float[Tensor, "models *shape"],
    *,
    weight: PerModel,
    nuslerp_flatten: Flag = False,  # noqa: ARG001
    nuslerp_row_wise: Flag = False,
) -> Float[Tensor, "*shape"]:
    """Point on the arc between two models' vectors along one axis, each pair with its own angle.

    t        = weight_2 / (weight_1 + weight_2), or 0.5 where the weights cancel
    theta_v  = angle between x_1,v and x_2,v, the vectors along the last axis, or with `nuslerp_row_wise` the first
    merged_v = sin((1 - t) theta_v) / sin(theta_v) x_1,v + sin(t theta_v) / sin(theta_v) x_2,v

    This is `nuslerp` with `nuslerp_flatten: false`: with a base model it works on task vectors, parallel vectors are
    joined by a line, and one shorter than 1e-7 is at a right angle to all. The name of the switch for the first axis is
    mergekit's.

    Use it where the rows of a matrix, the weights into one neuron, should keep their own lengths. It stands in for
    `nuslerp` when that is given `nuslerp_flatten: false`; there is no need to name it.

    weight: share of each model, before normalising
    nuslerp_flatten: tells `nuslerp` whether to come here; the tensor is never one vector
    nuslerp_row_wise: vectors along the first axis in place of the last

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("nuslerp_axes", torch.tensor([[[1.0, 0], [2, 0]], [[0.0, 1], [2, 0]]]), weight=1).tolist()
    [[0.7071067690849304, 0.7071067690849304], [2.0, 0.0]]
    """
    shape = models.shape[1:]
    columns = prod(shape[1:] if nuslerp_row_wise else shape[-1:])
    x = models.reshape(2, shape.numel() // max(1, columns), columns)
    axis = 1 if nuslerp_row_wise else 2
    cosine = pair_cosines(gram_along(x, axis), SHORTEST)[0]
    first, second = (each.unsqueeze(axis - 1) for each in arc_coefficients(cosine, second_share(weight)))
    merged = x[1] - x[0]
    return merged.mul_(second.to(x)).addcmul_(x[0], (first + second).to(x)).reshape(shape)
