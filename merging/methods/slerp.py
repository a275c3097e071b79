"""Spherical interpolation between two models."""

from __future__ import annotations

from merging.algebra.geometry import gram, slerp_coefficients
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Measured, Number


@merge_method(
    "slerp",
    paper="doi:10.1145/325334.325242",
    sees="models",
    reach="span",
    base="required",
    inputs=(2, 2),
    measure=(gram,),
)
def slerp(*, measured: Measured, t: Number) -> Float[Tensor, " models"]:
    """Point at fraction `t` of the arc from the base model to the other one, each tensor taken as one vector.

    theta  = angle between the two tensors, x of the base model and y of the other
    merged = sin((1 - t) theta) / sin(theta) x + sin(t theta) / sin(theta) y

    Lengths are those of x and y, not normalised. Where |cos(theta)| > 0.9995, as between most fine-tunes of one model,
    and where a tensor is zero, the straight line (1 - t) x + t y is taken. Values outside [0, 1] extrapolate.

    Use it to blend two models of one kind, layer by layer if `t` is a gradient. Fine-tunes of one base are nearly
    parallel, so for them it is `linear` with two weights.

    t: fraction of the way; 0 gives the base model, 1 the other

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("slerp", torch.tensor([[0.0, 1.0]]), torch.tensor([1.0, 0.0]), t=0.5)
    tensor([0.7071, 0.7071])
    """
    return torch.tensor(slerp_coefficients(measured["gram"], t), dtype=torch.float64)
