"""DARE with the sign election of TIES."""

from __future__ import annotations

from typing import Literal

from merging.algebra.randomness import Place
from merging.algebra.signs import disjoint_mean, disjoint_sum, elect_sign
from merging.lazy import Float, Tensor
from merging.methods.dare_linear import DARE_ROUNDS, Surviving, weighted_survivors
from merging.methods.declare import merge_method
from merging.methods.parameters import Flag, Measured, Number, PerModel, Unused


@merge_method("dare_ties", paper="arXiv:2311.03099", sees="task_vectors", reach="element", measure=DARE_ROUNDS)
def dare_ties(
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
    """Task vectors of which a random share survives, rescaled, merged with the sign election of TIES.

    kept_i = factor_i coin_i tau_i, as in `dare_linear`
    sign   = sign(sum_i weight_i kept_i), + where that is 0
    merged = base + lambda sum_i weight_i kept_i,  over the i whose weight_i kept_i has `sign`

    With `normalize` the sum is divided by that of the agreeing weights, which is the disjoint mean of TIES and of the
    paper; mergekit's default, and so ours, is the sum. The coins, by which the order of the models matters, and the two
    ways of rescaling are those of `dare_linear`.

    Use it as `dare_linear`, where task vectors contradict each other; an election among survivors is noisier than one
    among all, so with models that agree take `ties`.

    weight: coefficient of each task vector, in the vote as well
    density: share of each task vector's entries that survives
    normalize: divide by the sum of the agreeing weights
    rescale: make up for what was dropped
    rescaling: norm restores each tensor's L1 norm, as mergekit does; probability divides by the density, as the paper
    lambda: scale of the merged task vector
    int8_mask: no effect; a storage type in other tools

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("dare_ties", torch.tensor([[1.0] * 6, [-3.0] * 6]), torch.zeros(6), density=0.5, rescale=False)
    tensor([-3.,  0., -3.,  1.,  1., -3.])
    """
    kept = weighted_survivors(task_vectors, measured, random, weight, density, rescale, rescaling)
    sign = elect_sign(kept)
    merged = disjoint_mean(kept, sign, weight) if normalize else disjoint_sum(kept, sign)
    return merged.mul_(lambda_)
