"""Spherical interpolation of two models or of two task vectors."""

from __future__ import annotations

from merging.algebra.geometry import arc_coefficients, gram, pair_cosines
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Flag, Measured, PerModel

# Lengths count as this at least, and weights whose sum is nearer to zero share equally; mergekit's figures.
SHORTEST = 1e-7
NO_SHARE = 1e-6


@merge_method(
    "nuslerp",
    paper="arXiv:2403.13257",
    sees="models",
    reach="span",
    base="optional",
    inputs=(2, 2),
    measure=(gram,),
    instead=(("nuslerp_flatten", False, "nuslerp_axes"),),
)
def nuslerp(
    *,
    measured: Measured,
    weight: PerModel,
    nuslerp_flatten: Flag = True,  # noqa: ARG001
    nuslerp_row_wise: Flag = False,  # noqa: ARG001
) -> Float[Tensor, " models"]:
    """Point on the arc between two models, or between their task vectors where a base model is given.

    t      = weight_2 / (weight_1 + weight_2), or 0.5 where the weights cancel
    theta  = angle between x_1 and x_2
    merged = sin((1 - t) theta) / sin(theta) x_1 + sin(t theta) / sin(theta) x_2

    With a base model, merged = base + the same of tau_1 and tau_2. Lengths are those of the inputs, not normalised.
    Where the two are parallel or opposite, 1 - cos(theta)^2 <= 1e-16, it is the straight line (1 - t) x_1 + t x_2:
    `slerp` goes straight much sooner. A vector shorter than 1e-7 is at a right angle to all. From mergekit; the angle
    is computed in float64 here; in float32 all below 3e-4 look alike.

    Use it with a base model: task vectors meet at wide angles, where the arc keeps the length that a mean would lose,
    while the models themselves are all but parallel and the arc is a line. For more than two models, `multislerp`.

    weight: share of each model, before normalising
    nuslerp_flatten: take the tensor as one vector; if false, every row or column by itself
    nuslerp_row_wise: vectors along the first axis in place of the last; matters only without `nuslerp_flatten`

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("nuslerp", torch.tensor([[1.0, 0.0], [0.0, 1.0]]), weight=[1, 1])
    tensor([0.7071, 0.7071])
    """
    cosine = pair_cosines(measured["gram"], SHORTEST)[0]
    return torch.stack(arc_coefficients(cosine, second_share(weight)))


def second_share(weight: PerModel) -> float:
    """The second model's share of the weights."""
    first, second = weight.flatten().tolist()
    return 0.5 if abs(first + second) < NO_SHARE else second / (first + second)
