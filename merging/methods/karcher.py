"""The mean of models on the sphere."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from merging.algebra.geometry import gram, karcher_coefficients
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Count, Kind, Measured

# Anything larger would stop before the first step.
Tolerance: TypeAlias = Annotated[float, Kind("number", minimum=0.0, maximum=2.0**-10)]


@merge_method(
    "karcher", paper="doi:10.1002/cpa.3160300502", sees="models", reach="span", base="unused", measure=(gram,)
)
def karcher(*, measured: Measured, max_iter: Count = 10, tol: Tolerance = 1e-5) -> Float[Tensor, " models"]:
    """Mean direction of the models on the sphere, times their mean length, each tensor taken as one vector.

    n_i    = |x_i|,    u_i = x_i / n_i
    u      = the direction with the smallest sum of squared angles to the u_i
    merged = u sum_i n_i / models

    From the direction of sum_i u_i it goes along the gradient, u -> cos|g| u + sin|g| g / |g| with g the mean of
    theta_i / sin(theta_i) (u_i - cos(theta_i) u), theta_i the angle from u to u_i. u is a combination of the models, so
    all steps are taken on its coefficients, in float64, with nothing read but the inner products.

    All models weigh the same, as in mergekit. A model of length at most `tol` pulls nowhere, its length counts; where
    there is no longer one the result is zero. Where the u_i cancel, the first is the start.

    Use it for three or more models that are far apart, where a plain mean would be too short. Fine-tunes of one base
    model are nearly parallel, and there it is all but `linear`. Of two models as long as each other it is the middle of
    `slerp`.

    max_iter: most steps that are taken
    tol: a gradient, or a length, at most this long counts as zero

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("karcher", torch.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([2.1213, 2.1213])
    """
    products = measured["gram"]
    if len(products) == 1:
        return torch.ones(1, dtype=torch.float64)
    return karcher_coefficients(products, max_iter, tol)
