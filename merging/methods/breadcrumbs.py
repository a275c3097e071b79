"""Model breadcrumbs: drop both tails of every task vector, the noise below and the outliers above."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from merging.algebra.signs import sum_models, sum_scale
from merging.algebra.sparsify import keep_band, mass_ratio, masses
from merging.lazy import Float, Int, Tensor, torch
from merging.methods.declare import merge_method, only_if
from merging.methods.parameters import SHARE_OF_EACH, Flag, Measured, Number, PerModel, PerModelShare, Unused
from merging.methods.ranks import rank_rounds

Shares: TypeAlias = PerModelShare
Band: TypeAlias = Annotated[Any, SHARE_OF_EACH.shown_as(0.14)]


def ends_of_band(counts: Int[Tensor, "models one"], *, density: Shares, gamma: Shares) -> Int[Tensor, "models ends"]:
    """Ascending ranks of the band's ends: 0 is below every entry, n + 1 above."""
    ranks = []
    for n, keep, drop in zip(*(each.flatten().tolist() for each in (counts, density, gamma)), strict=True):
        count = int(keep * n)
        below = max(0, n - count - int(drop * n))
        high = below + count if below + count < n else n + 1
        ranks.append((below + 1 if below else 0, high) if count else (n + 1, n + 1))
    return torch.tensor(ranks, device=counts.device)


def band_masses(x: Float[Tensor, "models n"], *, measured: Measured) -> Float[Tensor, "models parts"]:
    """For rescaling: mass of each task vector and of its band."""
    return masses(x, _band(x, measured))


BAND_ROUNDS = (
    *(only_if("density", step) for step in rank_rounds("band_ends", ends_of_band)),
    only_if("rescale", band_masses),
)


@merge_method("breadcrumbs", paper="arXiv:2312.06795", sees="task_vectors", reach="element", measure=BAND_ROUNDS)
def breadcrumbs(
    task_vectors: Float[Tensor, "models *shape"],
    *,
    measured: Measured,
    weight: PerModel = 1.0,
    density: Band = 1.0,  # noqa: ARG001
    gamma: Shares = 0.01,  # noqa: ARG001
    normalize: Flag = False,
    rescale: Flag = False,
    lambda_: Number = 1.0,
    int8_mask: Unused = False,  # noqa: ARG001
) -> Float[Tensor, "*shape"]:
    """Weighted sum of task vectors without their smallest and largest changes.

    Of the n magnitudes of tau_i in ascending order the int(gamma n) last are outliers, and int(density n) before them
    are kept; where those are not enough, outliers are kept as well. Entries equal to either end of the band are kept.
    The defaults are mergekit's: density 1 keeps all, outliers too, and the merge is a plain sum. The paper keeps 0.09
    to 0.14 and drops a gamma of 0.01, at a lambda of 0.3.

    merged = base + lambda sum_i weight_i band_i

    Use it where single large changes are outliers rather than learnt; `breadcrumbs_rows` is the official code's.

    weight: coefficient of each task vector
    density: share of each task vector's entries that is kept
    gamma: share of each task vector's largest entries that is dropped
    normalize: divide by the sum of the weights, unless that is zero
    rescale: scale each band to the L1 norm of its task vector
    lambda: scale of the merged task vector
    int8_mask: no effect; a storage type in other tools

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("breadcrumbs", torch.tensor([[9.0, 1.0, 2.0, 3.0]]), torch.zeros(4), density=0.5, gamma=0.25)
    tensor([0., 0., 2., 3.])
    """
    bands = sum_models(weighted_bands(task_vectors, measured, weight, rescale))
    return bands.mul_(sum_scale(weight, normalize, lambda_))


def weighted_bands(
    x: Float[Tensor, "models *shape"], measured: Measured, weight: PerModel, rescale: bool
) -> Float[Tensor, "models *shape"]:
    """Every task vector's band, rescaled where asked, times its weight."""
    band = _band(x, measured)
    if rescale:
        band *= mass_ratio(measured["band_masses"]).to(band).reshape(weight.shape)
    return band.mul_(weight)


def _band(x: Float[Tensor, "models *shape"], measured: Measured) -> Tensor:
    return keep_band(x, *measured["band_ends"].unbind(1)) if "band_ends" in measured else x.clone()
