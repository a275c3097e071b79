"""Model breadcrumbs with the sign election of TIES."""

from __future__ import annotations

from merging.algebra.signs import disjoint_mean, disjoint_sum, elect_sign
from merging.lazy import Float, Tensor
from merging.methods.breadcrumbs import BAND_ROUNDS, Band, weighted_bands
from merging.methods.declare import merge_method
from merging.methods.parameters import Flag, Measured, Number, PerModel, PerModelShare, Unused


@merge_method("breadcrumbs_ties", paper="arXiv:2312.06795", sees="task_vectors", reach="element", measure=BAND_ROUNDS)
def breadcrumbs_ties(
    task_vectors: Float[Tensor, "models *shape"],
    *,
    measured: Measured,
    weight: PerModel = 1.0,
    density: Band = 1.0,  # noqa: ARG001
    gamma: PerModelShare = 0.01,  # noqa: ARG001
    normalize: Flag = False,
    rescale: Flag = False,
    lambda_: Number = 1.0,
    int8_mask: Unused = False,  # noqa: ARG001
) -> Float[Tensor, "*shape"]:
    """Breadcrumbs' bands, merged with the sign election and the disjoint mean of TIES.

    Use it where both outliers and disagreeing signs are a problem; otherwise `breadcrumbs` or `ties` alone.

    weight: coefficient of each task vector, in the vote as well
    density: share of each task vector's entries that is kept
    gamma: share of each task vector's largest entries that is dropped
    normalize: divide by the sum of the agreeing weights
    rescale: scale each band to the L1 norm of its task vector
    lambda: scale of the merged task vector
    int8_mask: no effect; a storage type in other tools

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("breadcrumbs_ties", torch.tensor([[9.0, 1.0, 2.0], [1.0, 2.0, -1.5]]), torch.zeros(3), density=0.7)
    tensor([9., 2., 2.])
    """
    weighted = weighted_bands(task_vectors, measured, weight, rescale)
    sign = elect_sign(weighted)
    merged = disjoint_mean(weighted, sign, weight) if normalize else disjoint_sum(weighted, sign)
    return merged.mul_(lambda_)
