"""DELLA: drop small changes more often than large ones, rescale the survivors, elect, average what agrees."""

from __future__ import annotations

from typing import Literal

from merging.algebra.randomness import Place
from merging.algebra.signs import disjoint_mean, disjoint_sum, elect_sign
from merging.lazy import Float, Tensor
from merging.methods.declare import merge_method
from merging.methods.della_linear import DELLA_ROUNDS, Chance, Spread, no_chance, weighted_survivors
from merging.methods.parameters import Flag, Measured, Number, PerModel, Unused


@merge_method(
    "della", paper="arXiv:2406.11617", sees="task_vectors", reach="row", measure=DELLA_ROUNDS, refuses=no_chance
)
def della(
    task_vectors: Float[Tensor, "models rows columns"],
    *,
    measured: Measured,
    random: Place,
    weight: PerModel = 1.0,
    density: Chance = 1.0,
    epsilon: Spread = 0.15,
    normalize: Flag = True,
    rescale: Flag = True,
    rescaling: Literal["norm", "probability"] = "norm",
    lambda_: Number = 1.0,
    int8_mask: Unused = False,  # noqa: ARG001
) -> Float[Tensor, "rows columns"]:
    """Task vectors whose entries survive by chance, the larger of a row more likely, merged by elected signs.

    chance_i = density - epsilon + 2 epsilon (r - 1) / (n - 1),  r the rank of |tau_i| in its row of n, ascending
    kept_i   = factor_i coin_i tau_i,  coin_i = 1 with probability chance_i, else 0
    factor_i = |tau_i|_1 / |coin_i tau_i|_1 of the tensor, or 1 / chance_i, or 1 without `rescale`
    sign     = sign(sum_i weight_i kept_i), + where that is 0
    merged   = base + lambda sum_i weight_i kept_i / sum_i weight_i,  over the i whose weight_i kept_i has `sign`

    Rows run along the last axis; a tensor of one axis is one row. In a row of one entry the chance is the density.
    Equal magnitudes rank in their order. Chances are multiples of 2^-16; coins are those of `dare_linear`, by which the
    order of the models matters. The paper divides by the chance; mergekit restores the L1 norm. Raises ParameterError
    unless density - epsilon and density + epsilon lie strictly inside (0, 1); density 1 keeps everything and 0 nothing,
    at any epsilon. Defaults are mergekit's, which drops nothing; the paper has density 0.7, epsilon 0.07, lambda 1.1.

    Use it in place of `dare_ties`, where some changes of a row are much larger than others.

    weight: coefficient of each task vector, in the vote as well
    density: share of each task vector's entries that survives on average
    epsilon: how much likelier than average the largest entry of a row survives, and how much less the smallest
    normalize: divide by the sum of the agreeing weights
    rescale: make up for what was dropped
    rescaling: norm restores each tensor's L1 norm as mergekit does; probability divides each entry by its own chance
    lambda: scale of the merged task vector
    int8_mask: no effect; a storage type in other tools

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("della", torch.tensor([[1.0, 2, 3, 4]]), torch.zeros(4), density=0.5, epsilon=0.4)
    tensor([0.0000, 0.0000, 4.2857, 5.7143])
    """
    unbiased = rescale and rescaling == "probability"
    kept = weighted_survivors(task_vectors, measured, random, weight, (density, epsilon), unbiased)
    sign = elect_sign(kept)
    merged = disjoint_mean(kept, sign, weight) if normalize else disjoint_sum(kept, sign)
    return merged.mul_(lambda_)
