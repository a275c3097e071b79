"""TIES: trim small changes, elect one sign per entry, average the changes that agree; every tensor by itself."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from merging.algebra.signs import disjoint_mean, disjoint_sum, elect_sign
from merging.algebra.sparsify import keep_largest, mass_ratio, masses
from merging.lazy import Float, Int, Tensor, torch
from merging.methods.declare import merge_method, only_if
from merging.methods.parameters import SHARE_OF_EACH, Flag, Measured, Number, PerModel, PerModelShare, Unused
from merging.methods.ranks import rank_rounds

Trimmed: TypeAlias = Annotated[Any, SHARE_OF_EACH.shown_as(0.2)]


def smallest_kept(counts: Int[Tensor, "models one"], *, density: PerModelShare) -> Int[Tensor, "models one"]:
    """Ascending rank of the smallest entry kept: 0 keeps all, n + 1 none."""
    pairs = zip(counts[:, 0].tolist(), density.flatten().tolist(), strict=True)
    ranks = [0 if share >= 1 else n + 1 if share <= 0 else n + 1 - max(1, int(share * n)) for n, share in pairs]
    return torch.tensor(ranks, device=counts.device)[:, None]


def trim_masses(x: Float[Tensor, "models n"], *, measured: Measured) -> Float[Tensor, "models parts"]:
    """For rescaling: mass of each task vector before and after trimming."""
    return masses(x, _trim(x, measured))


@merge_method(
    "ties",
    paper="arXiv:2306.01708",
    sees="task_vectors",
    reach="element",
    measure=(
        *(only_if("density", step) for step in rank_rounds("thresholds", smallest_kept)),
        only_if("rescale", trim_masses),
    ),
)
def ties(
    task_vectors: Float[Tensor, "models *shape"],
    *,
    measured: Measured,
    weight: PerModel = 1.0,
    density: Trimmed = 1.0,  # noqa: ARG001
    normalize: Flag = True,
    rescale: Flag = False,
    lambda_: Number = 1.0,
    int8_mask: Unused = False,  # noqa: ARG001
) -> Float[Tensor, "*shape"]:
    """Trim, elect, disjoint mean.

    trimmed_i = the `density` share of tau_i with the largest magnitudes, else 0
    sign      = sign(sum_i weight_i trimmed_i), + where that is 0
    merged    = base + lambda sum_i weight_i trimmed_i / sum_i weight_i,  over the i whose weight_i trimmed_i has `sign`

    Of n entries the max(1, int(density n)) largest are kept, with all that equal the smallest of them; none at density
    0. Weights vote, so a negative one votes for the opposite sign, and stay signed in the divisor; where that is
    exactly 0 nothing is divided. Defaults are mergekit's, which trims nothing; the paper keeps 0.2.

    Use it where task vectors disagree in sign, with a density of 0.1 to 0.5; `ties_global` is the paper's trimming.

    weight: coefficient of each task vector, in the vote as well
    density: share of each task vector's entries that is kept
    normalize: divide by the sum of the agreeing weights
    rescale: scale each trimmed task vector to the L1 norm it had
    lambda: scale of the merged task vector
    int8_mask: no effect; a storage type in other tools

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("ties", torch.tensor([[3.0, 1.0, 2.0], [1.0, -2.0, 0.5]]), torch.zeros(3), density=0.7)
    tensor([ 2., -2.,  2.])
    """
    trimmed = _trim(task_vectors, measured)
    if rescale:
        trimmed *= mass_ratio(measured["trim_masses"]).to(trimmed).reshape(weight.shape)
    trimmed *= weight
    sign = elect_sign(trimmed)
    merged = disjoint_mean(trimmed, sign, weight) if normalize else disjoint_sum(trimmed, sign)
    return merged.mul_(lambda_)


def _trim(x: Float[Tensor, "models *shape"], measured: Measured) -> Tensor:
    return keep_largest(x, measured["thresholds"][:, 0]) if "thresholds" in measured else x.clone()
