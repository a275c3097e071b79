"""DARE: drop changes at random, rescale the survivors, and add them up."""

from __future__ import annotations

from functools import partial
from operator import eq
from typing import Annotated, Any, Literal, TypeAlias

from merging.algebra.randomness import Place, keep_random, representable
from merging.algebra.signs import sum_models, sum_scale
from merging.algebra.sparsify import mass_ratio, masses
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import Rule, merge_method, only_if
from merging.methods.parameters import SHARE_OF_EACH, Flag, Measured, Number, PerModel, PerModelShare, Unused

Surviving: TypeAlias = Annotated[Any, SHARE_OF_EACH.shown_as(0.1)]


def surviving_masses(x: Float[Tensor, "models n"], *, random: Place, density: PerModelShare) -> Float[Tensor, "..."]:
    """Round for rescaling: mass of each task vector and of what survives, with the coins of the merge."""
    return masses(x, keep_random(x, random, density))


def to_match_norms(step: Rule) -> only_if:
    """The round that is taken to restore the L1 norm of what was not kept whole."""
    return only_if("rescale", only_if("density", only_if("rescaling", step, when=partial(eq, "norm"))))


DARE_ROUNDS = (to_match_norms(surviving_masses),)


@merge_method("dare_linear", paper="arXiv:2311.03099", sees="task_vectors", reach="element", measure=DARE_ROUNDS)
def dare_linear(
    task_vectors: Float[Tensor, "models *shape"],
    *,
    measured: Measured,
    random: Place,
    weight: PerModel = 1.0,
    density: Surviving = 1.0,
    normalize: Flag = False,
    rescale: Flag = True,
    rescaling: Literal["norm", "probability"] = "norm",
    lambda_: Number = 1.0,
    int8_mask: Unused = False,  # noqa: ARG001
) -> Float[Tensor, "*shape"]:
    """Weighted sum of task vectors of which a random share survives, rescaled.

    coin_i   = 1 with probability density_i, else 0, for each entry by itself
    factor_i = |tau_i|_1 / |coin_i tau_i|_1, or 1 / density_i, or 1 without `rescale`
    merged   = base + lambda sum_i weight_i factor_i coin_i tau_i

    The paper divides by the density, which keeps the expectation of every entry; mergekit matches the L1 norm of the
    tensor, which differs by the luck of the draw and where nothing survives is 1. Densities are taken to the nearest
    multiple of 2^-16. Coins depend on the recipe's seed, the tensor's name, the model's place in the list, by which the
    order of the models matters, and the entry's position. Defaults are mergekit's, which drops nothing; the paper keeps
    0.1 to 0.5.

    Use it for fine-tunes with many small changes, as of large language models; not for models far from their base,
    where what is dropped is missed. Dropping the smallest changes instead of random ones, which needs no luck, is
    `breadcrumbs` with gamma 0 and the same rescaling, or `ties` with an election.

    weight: coefficient of each task vector
    density: share of each task vector's entries that survives
    normalize: divide by the sum of the weights, unless that is zero
    rescale: make up for what was dropped
    rescaling: norm restores each tensor's L1 norm, as mergekit does; probability divides by the density, as the paper
    lambda: scale of the merged task vector
    int8_mask: no effect; a storage type in other tools

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("dare_linear", torch.ones(1, 6), torch.zeros(6), density=0.5, seed=2)
    tensor([0., 0., 0., 3., 0., 3.])
    """
    kept = weighted_survivors(task_vectors, measured, random, weight, density, rescale, rescaling)
    return sum_models(kept).mul_(sum_scale(weight, normalize, lambda_))


def weighted_survivors(
    x: Float[Tensor, "models *shape"],
    measured: Measured,
    random: Place,
    weight: PerModel,
    density: PerModelShare,
    rescale: bool,
    rescaling: str,
) -> Float[Tensor, "models *shape"]:
    """What survives of every task vector, rescaled where asked, times its weight."""
    factor = weight.double()
    if "surviving_masses" in measured:
        factor = factor * mass_ratio(measured["surviving_masses"]).reshape(weight.shape)
    elif rescale and rescaling == "probability":
        share = representable(density)
        factor = factor / torch.where(share == 0, 1.0, share)
    return keep_random(x, random, density).mul_(factor.to(x))
