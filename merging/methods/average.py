"""Averages of models: uniform and weighted soups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from merging.errors import ParameterError
from merging.lazy import Float, Tensor
from merging.methods.declare import merge_method
from merging.methods.parameters import Flag, PerModel

# Weights that cancel to less than this share of their size leave nothing but rounding to divide by.
CANCELLED = 1e-8


def no_mean(values: Mapping[str, Any], models: int) -> None:  # noqa: ARG001
    """Weights that cancel leave nothing to divide by."""
    weights = values["weight"]
    if values["normalize"] and abs(sum(weights)) <= CANCELLED * sum(map(abs, weights)):
        raise ParameterError(
            f"linear cannot average with weights {', '.join(f'{each:g}' for each in weights)}",
            must_be="weights whose sum is not zero",
            fix="change the weights, or write `normalize: false` for their plain sum",
        )


@merge_method(
    "linear",
    paper="arXiv:2203.05482",
    aliases=("average",),
    sees="models",
    reach="span",
    base="unused",
    refuses=no_mean,
)
def linear(*, weight: PerModel = 1.0, normalize: Flag = True) -> Float[Tensor, " models"]:
    """Weighted mean of the models.

    merged = sum_i weight_i x_i / sum_i weight_i

    Without `normalize` the sum is not divided. Equal weights give the uniform soup. Raises ParameterError where the
    weights cancel and no mean exists.

    Use it for models trained alike, with other seeds, data orders or learning rates: a soup is often better than any of
    them. Models of different tasks dilute each other in it.

    weight: share of each model, before normalising
    normalize: divide by the sum of the weights

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("linear", torch.tensor([[1.0, 4.0], [3.0, 0.0]]), weight=[3, 1])
    tensor([1.5000, 3.0000])
    """
    return weight / weight.sum() if normalize else weight  # type: ignore[no-any-return]
