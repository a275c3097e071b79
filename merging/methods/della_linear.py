"""DELLA: drop changes at random, small ones more often than large ones, rescale the survivors, and add them up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from merging.algebra.masks import chances, keep_by_rank
from merging.algebra.randomness import Place
from merging.algebra.signs import sum_models, sum_scale
from merging.algebra.sparsify import mass_ratio, masses
from merging.errors import ParameterError
from merging.lazy import Float, Tensor
from merging.methods.dare_linear import to_match_norms
from merging.methods.declare import merge_method
from merging.methods.parameters import SHARE_OF_EACH, Flag, Measured, Number, PerModel, PerModelShare, Unused

Chance: TypeAlias = Annotated[Any, SHARE_OF_EACH.shown_as(0.7)]
Spread: TypeAlias = Annotated[Any, SHARE_OF_EACH.shown_as(0.07)]


def surviving_masses(
    x: Float[Tensor, "models rows columns"], *, random: Place, density: PerModelShare, epsilon: PerModelShare
) -> Float[Tensor, "models parts"]:
    """Round for rescaling: mass of each task vector and of what survives, with the coins of the merge."""
    return masses(x, keep_by_rank(x, random, chances(density, epsilon)))


DELLA_ROUNDS = (to_match_norms(surviving_masses),)


def no_chance(values: Mapping[str, Any], models: int) -> None:
    """Every entry has a chance to survive and one to be dropped, unless all or none survive."""
    for i, share, spread in zip(range(models), values["density"], values["epsilon"], strict=True):
        if share not in (0, 1) and not 0 < share - spread <= share + spread < 1:
            raise ParameterError(
                f"no chance of survival is density {share:g} -+ epsilon {spread:g}, of model {i + 1} of {models}",
                must_be="density - epsilon above 0 and density + epsilon below 1, or density 0 or 1",
                fix=f"write epsilon below {min(share, 1 - share):g}",
            )


@merge_method(
    "della_linear", paper="arXiv:2406.11617", sees="task_vectors", reach="row", measure=DELLA_ROUNDS, refuses=no_chance
)
def della_linear(
    task_vectors: Float[Tensor, "models rows columns"],
    *,
    measured: Measured,
    random: Place,
    weight: PerModel = 1.0,
    density: Chance = 1.0,
    epsilon: Spread = 0.15,
    normalize: Flag = False,
    rescale: Flag = True,
    rescaling: Literal["norm", "probability"] = "norm",
    lambda_: Number = 1.0,
    int8_mask: Unused = False,  # noqa: ARG001
) -> Float[Tensor, "rows columns"]:
    """Weighted sum of task vectors whose entries survive by chance, the larger of a row more likely, rescaled.

    merged = base + lambda sum_i weight_i kept_i, with kept_i, epsilon and the two ways of rescaling as in `della`

    This form is mergekit's, with its defaults; the paper elects. By the coins the order of the models matters.

    Use it as `dare_linear`, where some changes of a row are much larger than others; sorting the rows takes longer.

    weight: coefficient of each task vector
    density: share of each task vector's entries that survives on average
    epsilon: how much likelier than average the largest entry of a row survives, and how much less the smallest
    normalize: divide by the sum of the weights, unless that is zero
    rescale: make up for what was dropped
    rescaling: norm restores each tensor's L1 norm as mergekit does; probability divides each entry by its own chance
    lambda: scale of the merged task vector
    int8_mask: no effect; a storage type in other tools

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("della_linear", torch.tensor([[1.0, 2, 3, 4]]), torch.zeros(4), density=0.5, epsilon=0.4)
    tensor([0.0000, 0.0000, 4.2857, 5.7143])
    """
    unbiased = rescale and rescaling == "probability"
    kept = weighted_survivors(task_vectors, measured, random, weight, (density, epsilon), unbiased)
    return sum_models(kept).mul_(sum_scale(weight, normalize, lambda_))


def weighted_survivors(
    x: Float[Tensor, "models rows columns"],
    measured: Measured,
    random: Place,
    weight: PerModel,
    shares: tuple[Tensor, Tensor],
    unbiased: bool,
) -> Float[Tensor, "models rows columns"]:
    """What survives of every task vector at these densities and epsilons, rescaled where asked, times its weight."""
    factor = weight.double()
    if "surviving_masses" in measured:
        factor = factor * mass_ratio(measured["surviving_masses"]).reshape(weight.shape)
    return keep_by_rank(x, random, chances(*shares), unbiased).mul_(factor.to(x))
