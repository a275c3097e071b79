"""The quantities of a diagnosis, worked out from sums; of any tensors together, by adding their sums first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from merging.analysis.magnitudes import kept_squares, share_above, squares, thresholds
from merging.analysis.measures import Sums
from merging.lazy import Float, Tensor, torch

# Percent of the entries, the largest ones, that trimming would keep; 20 is the density of the TIES paper.
DENSITIES = (5, 10, 20, 50)
# An entry beyond so many root mean squares stands out; of a normal distribution 2 in 10^9 do.
OUTLIER_RMS = 6.0


@dataclass(frozen=True)
class Quantity:
    """What a quantity is said of, its unit, and what it means.

    `of` is the base model, every model, every pair of models, or all models together.
    """

    of: Literal["base", "model", "pair", "all"]
    unit: str
    says: str


QUANTITIES: Mapping[str, Quantity] = {
    "base_norm": Quantity("base", "weights", "L2 norm |base| of the base model"),
    "norm": Quantity("model", "weights", "L2 norm |tau| of the task vector, fine-tuned minus base"),
    "relative_norm": Quantity("model", "share of |base|", "|tau| / |base|"),
    "base_cosine": Quantity("model", "-1 to 1", "cosine between task vector and base model; below 0 weights shrank"),
    "changed": Quantity("model", "share of entries", "entries that differ from the base model's"),
    "largest": Quantity("model", "weights", "largest |tau_e| of an entry e"),
    "kurtosis": Quantity("model", "ratio", "mean tau^4 / (mean tau^2)^2 over all entries: 3 if normal, more if sparse"),
    "outliers": Quantity("model", "share of entries", "entries beyond 6 root mean squares, to within a bin"),
    **{
        f"kept_norm_{density}": Quantity(
            "model", "share of |tau|", f"L2 norm that the largest {density} % of all entries have; within 0.02"
        )
        for density in DENSITIES
    },
    **{
        f"threshold_{density}": Quantity(
            "model", "weights", f"magnitude that the largest {density} % of all entries reach; within 12.5 %"
        )
        for density in DENSITIES
    },
    "non_finite": Quantity("model", "entries", "entries that are no finite float32; also of the base model"),
    "inner_product": Quantity("pair", "weights squared", "<tau_i, tau_j>"),
    "cosine": Quantity("pair", "-1 to 1", "<tau_i, tau_j> / (|tau_i| |tau_j|)"),
    "distance": Quantity("pair", "weights", "|tau_i - tau_j|, the distance between the models"),
    "sign_agreement": Quantity(
        "pair", "-1 to 1", "of the entries both changed, the share changed in one direction minus that in opposite ones"
    ),
    "sign_conflict": Quantity("pair", "entries", "entries changed in opposite directions; also of all models together"),
    "sign_conflict_share": Quantity(
        "pair", "share of entries", "sign_conflict over the entries both changed; of all: at least two changed"
    ),
    "mass_conflict": Quantity(
        "all", "share of magnitude", "1 - sum_e |sum_i tau_ie| / sum_e sum_i |tau_ie|: what opposite signs cancel"
    ),
    "sum_norm": Quantity("all", "weights", "norm |sum_i tau_i| of the sum of all task vectors"),
    "average_norm": Quantity("all", "weights", "norm of their mean, which linear merging adds to the base"),
    "interference": Quantity(
        "all", "ratio", "sum_norm over what it were if task vectors were orthogonal: below 1 they cancel, above add up"
    ),
}


def quantities(
    sums: Sums, entries: Float[Tensor, " groups"]
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Quantities of the base (groups,), of models (groups, models), of pairs (…, models, models), of all (groups,).

    NaN where a quantity is not defined: a ratio whose denominator is zero.
    """
    base = sums.gram[:, 0, 0].sqrt()
    changed = sums.signs.diagonal(dim1=-2, dim2=-1)
    single = {"norm": _norms(sums), "relative_norm": _norms(sums) / _some(base[:, None])}
    single["base_cosine"] = (sums.gram[:, 0, 1:] / _some(base[:, None] * _norms(sums))).clamp(-1.0, 1.0)
    single["changed"] = changed / _some(entries[:, None])
    single |= _of_magnitudes(sums, entries)
    single["non_finite"] = sums.non_finite[:, 1:].double()
    of_base = {"base_norm": base, "non_finite": sums.non_finite[:, 0].double()}
    return of_base, single, _of_pairs(sums), _of_all(sums)


def _norms(sums: Sums) -> Float[Tensor, "groups models"]:
    return sums.gram.diagonal(dim1=-2, dim2=-1)[:, 1:].sqrt()


def _some(denominator: Tensor) -> Tensor:
    """NaN instead of zero, so that no ratio to nothing is a number."""
    return torch.where(denominator == 0, torch.nan, denominator)


def _of_magnitudes(sums: Sums, entries: Float[Tensor, " groups"]) -> dict[str, Tensor]:
    norm = _norms(sums)
    rms = norm / _some(entries[:, None]).sqrt()
    in_bins = squares(sums.magnitudes, norm**2, sums.largest)
    found = {
        "largest": sums.largest,
        "kurtosis": sums.fourth * entries[:, None] / _some(norm**4),
        "outliers": share_above(sums.magnitudes, sums.largest, OUTLIER_RMS * rms) / (norm > 0),
    }
    for density in DENSITIES:
        kept = kept_squares(sums.magnitudes, in_bins, density / 100)
        found[f"kept_norm_{density}"] = (kept / _some(norm**2)).clamp(0.0, 1.0).sqrt()
        found[f"threshold_{density}"] = thresholds(sums.magnitudes, sums.largest, density / 100)
    return found


def _of_pairs(sums: Sums) -> dict[str, Tensor]:
    inner, norm = sums.gram[:, 1:, 1:], _norms(sums)
    square = inner.diagonal(dim1=-2, dim2=-1)
    apart = square[:, :, None] + square[:, None, :] - 2 * inner
    conflict = (sums.shared - sums.signs) / 2
    return {
        "inner_product": inner,
        "cosine": (inner / _some(norm[:, :, None] * norm[:, None, :])).clamp(-1.0, 1.0),
        "distance": apart.clamp(min=0.0).sqrt(),
        "sign_agreement": sums.signs / _some(sums.shared),
        "sign_conflict": conflict,
        "sign_conflict_share": conflict / _some(sums.shared),
    }


def _of_all(sums: Sums) -> dict[str, Tensor]:
    inner = sums.gram[:, 1:, 1:]
    whole = inner.sum((-2, -1)).clamp(min=0.0).sqrt()
    apart = inner.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()
    return {
        "sign_conflict": sums.disputed[:, 1],
        "sign_conflict_share": sums.disputed[:, 1] / _some(sums.disputed[:, 0]),
        "mass_conflict": (1 - sums.mass[:, 1] / _some(sums.mass[:, 0])).clamp(min=0.0),
        "sum_norm": whole,
        "average_norm": whole / inner.shape[-1],
        "interference": whole / _some(apart),
    }
