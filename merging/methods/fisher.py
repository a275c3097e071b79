"""Fisher merging: average models, each entry weighted by how much it matters to its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from merging.errors import ParameterError
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import NonNegative, PerModel

# Added in any case, so that entries that matter to no model are averaged.
LEAST_FLOOR = 1e-30


def no_mean(values: Mapping[str, Any], models: int) -> None:  # noqa: ARG001
    """A mean needs weights of one sign."""
    weights = values["weight"]
    if min(weights) < 0 or not any(weights):
        raise ParameterError(
            f"there is no mean with weights {', '.join(f'{each:g}' for each in weights)}",
            must_be="no weight below zero, and one above",
            fix="change the weights, or leave them out",
        )


@merge_method(
    "fisher",
    paper="arXiv:2111.09832",
    sees="models",
    reach="element",
    base="unused",
    companions=("fisher",),
    refuses=no_mean,
)
def fisher(
    models: Float[Tensor, "models *shape"],
    *,
    fisher: Float[Tensor, "models *shape"],
    weight: PerModel = 1.0,
    floor: NonNegative = 1e-6,
) -> Float[Tensor, "*shape"]:
    """Mean of the models, each entry weighted by the model's Fisher information of it.

    F_i    = mean over data of the squared gradient of the log-likelihood, entry by entry, brought along by each model
    merged = sum_i weight_i (F_i + floor) x_i / sum_i weight_i (F_i + floor)

    The mean maximises the models' joint posterior, each taken as a Gaussian of precision F_i. Weights are normalised by
    the division. The floor makes entries that matter to no model a plain weighted mean; it is absolute, so it must be
    small beside the Fisher information there is. The authors can divide each weight by the length of the model's whole
    F_i, so that models trained on losses of different size count alike; rounds do not see statistics, so this is left
    out: divide the weights yourself. Raises ParameterError where a weight is negative or all are zero.

    Use it where Fisher information was kept or can be computed; without it `linear` is all there is to have. It takes
    no account of entries that matter together, which `regmean` does for linear maps.

    weight: what each model's information counts
    floor: added to all information, 1e-30 at the least

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("fisher", torch.tensor([[1.0], [4.0]]), companions={"fisher": torch.tensor([[2.0], [1.0]])})
    tensor([2.0000])
    """
    merged, total, share = torch.zeros_like(models[0]), torch.zeros_like(models[0]), torch.empty_like(models[0])
    for x, information, each in zip(models, fisher, weight, strict=True):
        torch.add(information.to(x), max(floor, LEAST_FLOOR), out=share).mul_(each)
        total += share
        # From the first model on: equal models stay what they are.
        merged += share.mul_(x - models[0])
    return merged.div_(total).add_(models[0])
