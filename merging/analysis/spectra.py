"""Spectra of task vectors: how many directions of each matrix a fine-tune moved, and which of them two share.

With singular values s_1 >= s_2 >= ... of a task vector, energies s_k^2 and E their sum:

singular_value  s_k, for the leading ones; column j holds k
effective_rank  exp(-sum_k p_k log p_k) with p_k = s_k / sum s (Roy and Vetterli, 2007)
participation   E^2 / sum_k s_k^4, how many equal energies would be as concentrated
stable_rank     E / s_1^2
rank_90         directions that together hold 90 % of E; rank_99 likewise
overlap_left    |U_i^T U_j|_F^2 / k of two models, U the k first left singular vectors: the mean squared cosine of the
                principal angles between what they write to. 1: the same space; k / rows by chance
overlap_right   the same of the right singular vectors, of what they read; k / columns by chance
overlap_rank    that k: the smaller of the two models' rank_90, and at most 64

A matrix that a fine-tune left alone has ranks 0, and no overlap with anything. One with an entry that is no number has
NaN for all.

The cost is that of the float64 Gram matrix of the short side and its eigenvalues: for one model on one core 0.1 s for
768 x 768, 2 s for 2048 x 2048, and so on with the cube; overlaps want eigenvectors and take three times as long.
Matrices are decomposed side by side, one a worker, as the memory allows: each takes its operands as stored, one task
vector in float64, and a few squares of the short side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

from merging.algebra.spectra import NULL
from merging.analysis.diagnose import Model, Watch
from merging.analysis.matrices import FLOAT64_BYTES, Fit, Limits, Named, over_matrices, task_vector
from merging.analysis.table import Measurement, Table
from merging.errors import MergingError, nearest
from merging.lazy import Float, Tensor, torch
from merging.planning.build import GiB

OVERLAPS = ("overlap_left", "overlap_right", "overlap_rank")
QUANTITIES = ("singular_value", "effective_rank", "participation", "stable_rank", "rank_90", "rank_99", *OVERLAPS)
# Singular values in the table, and directions compared between models.
LEADING = 64
# Squares of the short side: the Gram matrix, its eigenvectors, and what LAPACK works in.
SQUARES = 5


class _Spectrum(NamedTuple):
    """Descending singular values of a task vector; of its leading directions, the vectors of both sides."""

    values: Float[Tensor, " short"]
    left: Float[Tensor, "rows k"] | None = None
    right: Float[Tensor, "columns k"] | None = None


def spectra(
    models: Sequence[Model],
    base: Model,
    *,
    quantities: Sequence[str] = QUANTITIES,
    missing_tensors: Literal["refuse", "base"] = "refuse",
    extra_tensors: Literal["refuse", "drop"] = "drop",
    allow_pickle: bool = False,
    largest: int | None = None,
    workers: int | None = None,
    memory: int = 4 * GiB,
    watch: Watch | None = None,
) -> Table:
    """Spectra of the models' task vectors, matrix by matrix; i names the model, for overlaps i and j the two models.

    Models are paths, as recipes name them, or opened checkpoints. `missing_tensors`, `extra_tensors` and `allow_pickle`
    are those of `diagnose`: a tensor taken from the base did not move. `largest` takes only so many matrices, those
    with the most entries. `memory` in bytes bounds what is held at once; `watch(done, of)` is called after each matrix.

    Raises MergingError for an unknown quantity, what planning raises where the models do not fit together, and
    OutputError where a matrix does not fit the memory.
    """
    _require(quantities)
    paired = len(models) > 1 and any(quantity in OVERLAPS for quantity in quantities)

    def measure(place: Named, bare: Tensor, tuned: Sequence[Tensor], names: Sequence[str]) -> Iterator[Measurement]:
        found = [_spectrum(task_vector(each, bare), paired) for each in tuned]
        for name, spectrum in zip(names, found, strict=True):
            yield from _alone(place, name, spectrum.values, quantities)
        if paired:
            yield from _together(place, names, found, quantities)

    def scratch(rows: int, columns: int, models: int) -> int:
        kept = models * LEADING * (rows + columns) if paired else 0
        return FLOAT64_BYTES * (rows * columns + SQUARES * min(rows, columns) ** 2 + kept)

    fit = Fit(missing_tensors, extra_tensors, allow_pickle)
    return over_matrices(models, base, measure, scratch, Limits(largest, workers, memory, watch), fit)


def _require(quantities: Sequence[str]) -> None:
    for quantity in quantities:
        if quantity not in QUANTITIES:
            close = nearest(quantity, QUANTITIES, count=1)
            raise MergingError(
                f"a spectrum has no {quantity!r}",
                must_be="one of " + ", ".join(QUANTITIES),
                fix=f"did you mean {close[0]!r}?" if close else None,
            )


def _spectrum(x: Float[Tensor, "rows columns"], paired: bool) -> _Spectrum:
    """One Gram matrix is enough: values below 1e-6 of the largest, where it blurs, are the operands' own rounding."""
    wide = x.shape[0] < x.shape[1]
    gram = x @ x.T if wide else x.T @ x
    if not bool(gram.isfinite().all()):
        return _Spectrum(gram.new_full(gram.shape[:1], torch.nan))
    if not paired:
        return _Spectrum(_floored(torch.linalg.eigvalsh(gram)))
    energies, vectors = torch.linalg.eigh(gram)
    values = _floored(energies)
    k = min(LEADING, _rank(values, 0.9))
    near = vectors.flip(1)[:, :k].clone()
    far = (x.T if wide else x) @ near / values[:k]
    return _Spectrum(values, near, far) if wide else _Spectrum(values, far, near)


def _floored(energies: Float[Tensor, " short"]) -> Float[Tensor, " short"]:
    values = energies.flip(0).clamp(min=0).sqrt()
    return torch.where(values > NULL * values[:1], values, 0.0)


def _rank(values: Float[Tensor, " short"], share: float) -> int:
    """How many of the values it takes to hold a share of the energy; 0 where there is none."""
    sums = values.square().cumsum(0)
    return int((sums < share * sums[-1]).sum()) + 1 if float(sums[-1]) > 0 else 0


def _alone(
    place: Named, name: str, values: Float[Tensor, " short"], quantities: Sequence[str]
) -> Iterator[Measurement]:
    if "singular_value" in quantities:
        leading = values[:LEADING].tolist()
        yield from (place.row("singular_value", value, name, str(k)) for k, value in enumerate(leading, 1))
    numbers = _numbers(values)
    yield from (place.row(quantity, numbers[quantity], name) for quantity in quantities if quantity in numbers)


def _numbers(values: Float[Tensor, " short"]) -> dict[str, float]:
    energy, total = float(values.square().sum()), float(values.sum())
    if not energy > 0:
        return dict.fromkeys(QUANTITIES[1:6], energy)
    shares = values[values > 0] / total
    return {
        "effective_rank": float(torch.exp(-(shares * shares.log()).sum())),
        "participation": energy**2 / float(values.pow(4).sum()),
        "stable_rank": energy / float(values[0]) ** 2,
        "rank_90": float(_rank(values, 0.9)),
        "rank_99": float(_rank(values, 0.99)),
    }


def _together(
    place: Named, names: Sequence[str], found: Sequence[_Spectrum], quantities: Sequence[str]
) -> Iterator[Measurement]:
    for (i, one), (j, other) in combinations(zip(names, found, strict=True), 2):
        for quantity, value in zip(OVERLAPS, _overlaps(one, other) or (), strict=False):
            if quantity in quantities:
                yield place.row(quantity, value, i, j)


def _overlaps(one: _Spectrum, other: _Spectrum) -> tuple[float, float, float] | None:
    if one.left is None or other.left is None or one.right is None or other.right is None:
        return torch.nan, torch.nan, torch.nan
    k = min(one.left.shape[1], other.left.shape[1])
    if not k:
        return None
    left = float((one.left[:, :k].T @ other.left[:, :k]).square().sum()) / k
    return left, float((one.right[:, :k].T @ other.right[:, :k]).square().sum()) / k, float(k)
