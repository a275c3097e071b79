"""Intruder dimensions: leading singular vectors of a fine-tuned matrix that no singular vector of the base resembles.

Low-rank fine-tuning puts new directions in front of the old ones; full fine-tuning turns the old ones a little. The
models forget more, the more intruders they have (Shuttleworth et al., arXiv:2410.21228).

For the k-th of the `top` left singular vectors u_k of a fine-tuned matrix, over all left singular vectors of the base:

base_cosine                max_i |<u_k, u0_i>|; column j holds k
fine_tuned_singular_value  s_k of the fine-tuned matrix, not of the task vector; column j holds k
intruders                  how many of them have a base_cosine below epsilon

Directions in which a matrix does nothing are no singular vectors: of a fine-tuned matrix of lower rank fewer than `top`
are looked at, and of the base none is compared. Where singular values coincide their vectors are arbitrary within the
space they span, and cosines with them too; trained matrices have no such values in front.

The cost is a full decomposition of every base matrix, on one core 0.25 s for 768 x 768 and 6 s for 2048 x 2048, and as
much for each fine-tuned one, or a part of it where the spectrum falls so fast that a sketch serves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan, nan

from merging.algebra.spectra import svd, top_singular
from merging.analysis.diagnose import Model, Watch
from merging.analysis.matrices import FLOAT64_BYTES, Limits, Named, over_matrices
from merging.analysis.table import Measurement, Table
from merging.errors import MergingError
from merging.lazy import Float, Tensor
from merging.planning.build import GiB

# Of the paper: ten vectors of each matrix, and half a cosine; it draws curves over epsilon from 0.3 to 0.9.
TOP = 10
EPSILON = 0.5
# Copies of a matrix in float64, and squares of its short side, that a decomposition holds beside the base's vectors.
COPIES, SQUARES = 4, 5


def intruders(
    models: Sequence[Model],
    base: Model,
    *,
    top: int = TOP,
    epsilon: float = EPSILON,
    largest: int | None = None,
    workers: int | None = None,
    memory: int = 4 * GiB,
    watch: Watch | None = None,
) -> Table:
    """Intruder dimensions of the fine-tuned models, matrix by matrix; i names the model.

    Models are paths, as recipes name them, or opened checkpoints. `largest` takes only so many matrices, those with the
    most entries. `memory` in bytes bounds what is held at once; `watch(done, of)` is called after each matrix. For
    another epsilon `recount` needs no second look.

    Raises MergingError for a `top` or an `epsilon` out of bounds, what planning raises where the models do not fit
    together, and OutputError where a matrix does not fit the memory.
    """
    if top < 1:
        raise MergingError(f"{top} singular vectors cannot be looked at", must_be="a whole number of at least 1")
    _require(epsilon)

    def measure(place: Named, bare: Tensor, tuned: Sequence[Tensor], names: Sequence[str]) -> Iterator[Measurement]:
        known, _, _ = svd(bare.double())
        for name, matrix in zip(names, tuned, strict=True):
            u, s, _ = top_singular(matrix.double(), top)
            cosines = _closest(u, known).tolist()
            kept = [(k, c, value) for k, (c, value) in enumerate(zip(cosines, s.tolist(), strict=True), 1) if value]
            yield from (place.row("base_cosine", cosine, name, str(k)) for k, cosine, _ in kept)
            yield from (place.row("fine_tuned_singular_value", value, name, str(k)) for k, _, value in kept)
            yield place.row("intruders", _count([cosine for _, cosine, _ in kept], epsilon), name)

    def scratch(rows: int, columns: int, _: int) -> int:
        return FLOAT64_BYTES * (COPIES * rows * columns + SQUARES * min(rows, columns) ** 2)

    return over_matrices(models, base, measure, scratch, Limits(largest, workers, memory, watch))


def recount(table: Table, epsilon: float) -> Table:
    """The same table with `intruders` counted anew, from the cosines in it.

    Raises MergingError for an `epsilon` out of bounds.
    """
    _require(epsilon)
    cosines: dict[tuple[object, ...], list[float]] = {}
    for row in table.where(quantity="base_cosine"):
        cosines.setdefault((row.tensor, row.role, row.i), []).append(row.value)
    return Table(
        tuple(
            row._replace(value=_count(cosines.get((row.tensor, row.role, row.i), []), epsilon))
            if row.quantity == "intruders"
            else row
            for row in table
        )
    )


def _closest(u: Float[Tensor, "rows k"], known: Float[Tensor, "rows n"]) -> Float[Tensor, " k"]:
    """Of each vector the largest magnitude of its cosines with the known ones."""
    return (known.T @ u).abs().amax(0).clamp(max=1.0)


def _count(cosines: Sequence[float], epsilon: float) -> float:
    """NaN where the matrices hold what is no number."""
    if any(map(isnan, cosines)):
        return nan
    return float(sum(cosine < epsilon for cosine in cosines))


def _require(epsilon: float) -> None:
    if not 0 < epsilon <= 1:
        raise MergingError(f"epsilon is {epsilon:g}", must_be="a cosine in (0, 1], as 0.5")
