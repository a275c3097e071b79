"""Spherical interpolation of any number of models or task vectors."""

from __future__ import annotations

from merging.algebra.geometry import combined_length, gram
from merging.errors import ParameterError
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Flag, Measured, NonNegative, PerModel

# Weights that cancel to less than this share of their size leave nothing but rounding to divide by.
CANCELLED = 1e-8


@merge_method("multislerp", paper="arXiv:2403.13257", sees="models", reach="span", base="optional", measure=(gram,))
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
    shares = _normalised(weight) if normalize_weights else weight
    products = measured["gram"].to(shares)
    lengths = products.diagonal().sqrt()
    directions = torch.where(lengths > 0, shares / (lengths + eps), 0.0)
    length = combined_length(directions, products)
    return directions * (torch.dot(shares, lengths) / length) if length > eps else shares


def _normalised(weight: PerModel) -> PerModel:
    total = float(weight.sum())
    if abs(total) <= CANCELLED * float(weight.abs().sum()):
        raise ParameterError(
            f"multislerp cannot share by the weights {', '.join(f'{each:g}' for each in weight.tolist())}",
            must_be="weights whose sum is not zero",
            fix="change the weights, or write `normalize_weights: false`",
        )
    return weight / total
