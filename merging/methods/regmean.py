"""RegMean: the linear layer whose outputs are nearest to those of all models, each on its own data."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from merging.algebra.projections import divide_by_gram
from merging.errors import ParameterError
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Kind, Share

Importance: TypeAlias = Annotated[Any, Kind("number", per_model=True, minimum=0.0)]


def mean(*, weight: Importance) -> Float[Tensor, " models"]:
    """The weighted mean of the models; the plain one where all weights are 0."""
    total = float(weight.sum())
    return weight / total if total else torch.full_like(weight, 1 / len(weight))


@merge_method(
    "regmean",
    paper="arXiv:2212.09849",
    aliases=("regmean_plus_plus",),
    sees="models",
    reach="matrix",
    base="unused",
    elsewhere=mean,
    companions=("gram_inputs",),
)
def regmean(
    models: Float[Tensor, "models rows columns"],
    *,
    gram_inputs: Float[Tensor, "models n n"],
    weight: Importance = 1.0,
    reduction: Share = 0.9,
) -> Float[Tensor, "rows columns"]:
    """Least-squares fit of one linear layer to the outputs of all models on their own inputs.

    merged = argmin_W sum_i weight_i E |W x - W_i x|^2   over the inputs x of model i
           = (sum_i W_i G_i) (sum_i G_i)^-1,    G_i = weight_i E[x x'] with off-diagonal entries times `reduction`

    `gram_inputs` holds E[x x'] of each model over a few hundred samples, tokens counted one by one; a sum instead of a
    mean lets models with more tokens count for more. The solution is a matrix-weighted mean: inputs that no model ever
    saw take the weighted mean of the models, as do all other tensors; a singular sum gets the smallest ridge towards
    it with which it can be factored. Cost: one Cholesky factor of side n.

    RegMean++ (arXiv:2508.03121, alias `regmean_plus_plus`) is the same formula on other statistics: the inputs of a
    layer are collected behind the merged layers before it, so they are gathered and merged layer by layer.

    Use it where unlabelled samples of each task can be run through its model; no base model is needed, and it stands
    well above averages and `ties`. Without samples, `wudi` takes the rows of the task vectors for the inputs.

    weight: how much each model counts
    reduction: factor of the off-diagonal entries; 0.9 to 0.95 is usual

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("regmean", torch.eye(2).expand(2, 2, 2), companions={"gram_inputs": torch.ones(2, 2, 2)})[0]
    tensor([1., 0.])
    """
    x = models.double()
    if gram_inputs.shape != (len(x), x.shape[2], x.shape[2]):
        raise ParameterError(
            f"regmean cannot merge a matrix with {x.shape[2]} inputs by statistics of shape {tuple(gram_inputs.shape)}",
            must_be=f"({len(x)}, {x.shape[2]}, {x.shape[2]})",
            fix="collect the inner products of this layer's inputs, not of its outputs",
        )
    coefficients = mean(weight=weight.double().flatten())
    centre = torch.tensordot(coefficients, x, 1)
    gram = x.new_zeros(gram_inputs.shape[1:])
    pull = torch.zeros_like(centre)
    for each, statistic, coefficient in zip(x, gram_inputs, coefficients.tolist(), strict=True):
        seen = statistic.double() * (reduction * coefficient)
        seen.diagonal().copy_(statistic.diagonal()).mul_(coefficient)
        gram += seen
        pull += (each - centre) @ seen
    merged = centre + divide_by_gram(pull, gram)
    return merged.to(models)  # type: ignore[no-any-return]
