"""Spherical interpolation of any number of models or task vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from merging.algebra.geometry import combined_length, gram
from merging.errors import ParameterError
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Flag, Measured, NonNegative, PerModel

# Weights that cancel to less than this share of their size leave nothing but rounding to divide by.
CANCELLED = 1e-8


def no_shares(values: Mapping[str, Any], models: int) -> None:
    """Weights that cancel leave nothing to divide by; one input comes back whatever its weight."""
    # That weights are missing is told elsewhere.
    weights = values.get("weight", [1.0])
    if models > 1 and values["normalize_weights"] and abs(sum(weights)) <= CANCELLED * sum(map(abs, weights)):
        raise ParameterError(
            f"multislerp cannot share by the weights {', '.join(f'{each:g}' for each in weights)}",
            must_be="weights whose sum is not zero",
            fix="change the weights, or write `normalize_weights: false`",
        )


@merge_method(
    "multislerp",
    paper="arXiv:2403.13257",
    sees="models",
    reach="span",
    base="optional",
    measure=(gram,),
    refuses=no_shares,
)
def multislerp(
    *, measured: Measured, weight: PerModel, normalize_weights: Flag = True, eps: NonNegative = 1e-8
) -> Float[Tensor, " models"]:
    """Weighted mean direction of the models, or with a base model of their task vectors, times their mean length.

    u_i    = x_i / (|x_i| + eps)
    m      = sum_i weight_i u_i
    merged = m / |m| sum_i weight_i |x_i|,    the weights divided by their sum

    With a base model, merged = base + the same of the tau_i. mergekit goes on to map the u_i to the tangent plane at m
    and their mean back; with the projection it uses that mean is zero exactly, so the formula above is all of it. Where
    the directions cancel, |m| <= eps, merged = sum_i weight_i x_i; mergekit raises an error there for more than two
    inputs, frozen tensors included. One input comes back as it is. Raises ParameterError where weights that are to be
    normalised cancel.

    Use it with a base model for task vectors at wide angles, whose mean would be too short. `karcher` finds the true
    mean on the sphere, for equal weights; for two inputs `nuslerp` keeps their own lengths.

    weight: share of each model, before normalising
    normalize_weights: divide by the sum of the weights
    eps: added to lengths, and the length of m that counts as zero; near it the size of the changes matters

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("multislerp", torch.tensor([[2.0, 0.0], [0.0, 4.0]]), weight=1)
    tensor([2.1213, 2.1213])
    """
    if len(weight) == 1:
        return torch.ones_like(weight)
    shares = weight / weight.sum() if normalize_weights else weight
    products = measured["gram"].to(shares)
    lengths = products.diagonal().sqrt()
    directions = torch.where(lengths > 0, shares / (lengths + eps), 0.0)
    length = combined_length(directions, products)
    return directions * (torch.dot(shares, lengths) / length) if length > eps else shares
