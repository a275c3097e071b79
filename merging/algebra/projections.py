"""Projections, means weighted by Gram matrices, and descent on matrices; in float64 unless it says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite, sqrt
from typing import TypeAlias

from merging.algebra.spectra import top_singular
from merging.errors import ParameterError
from merging.lazy import Float, Tensor, torch

Slope: TypeAlias = "Callable[[Tensor], Tensor]"

# Singular values below this share of the largest belong to no direction: those vectors are whatever the solver likes.
NUMERICAL_RANK = 1e-6
# What is added to the diagonal of a singular Gram matrix, as shares of its norm, until it can be factored.
JITTERS = (1e-14, 1e-12, 1e-10, 1e-8)
# Adam's usual decay rates of the two averages, and its guard against division by zero.
FIRST_DECAY, SECOND_DECAY, GUARD = 0.9, 0.999, 1e-8


def leading_rank(s: Float[Tensor, " rank"], share: float) -> int:
    """How many of the largest singular values make up at most `share` of their sum; 0 where all of them do.

    >>> leading_rank(torch.tensor([4.0, 3.0, 2.0, 1.0]), 0.75), leading_rank(torch.tensor([4.0, 3.0]), 1.0)
    (2, 0)
    """
    sums = s.double().cumsum(0)
    beyond = (sums > share * sums[-1:]).nonzero()
    return int(beyond[0]) if len(beyond) else 0


def remove_directions(
    x: Float[Tensor, "rows columns"],
    u: Float[Tensor, "rows rank"],
    s: Float[Tensor, " rank"],
    vt: Float[Tensor, "rank columns"],
    leading: int,
) -> Float[Tensor, "rows columns"]:
    """What a matrix has outside the directions of another one, whose singular value decomposition is given.

    removed = sum_{i, j <= leading} u_i (u_i' x v_j) v_j'  +  sum_{i > leading} u_i (u_i' x v_i) v_i'

    Directions with s_i <= 1e-6 s_1 are those of no matrix and nothing is removed along them. Products are taken in the
    dtype of x: nothing here is divided by a small s_i, so that their rounding stays that of x.

    >>> remove_directions(torch.ones(2, 2), torch.eye(2), torch.tensor([2.0, 1.0]), torch.eye(2), 0)
    tensor([[0., 1.],
            [1., 0.]])
    """
    real = int((s > NUMERICAL_RANK * s[:1]).sum())
    leading = min(leading, real)
    u, vt = u[:, :real].to(x), vt[:real].to(x)
    seen = u.T @ x
    block = seen[:leading] @ vt[:leading].T @ vt[:leading]
    along = (seen[leading:] * vt[leading:]).sum(1, keepdim=True) * vt[leading:]
    return x - u @ torch.cat([block, along])


def divide_by_gram(
    x: Float[Tensor, "rows n"], gram: Float[Tensor, "n n"], ridge: float = 0.0
) -> Float[Tensor, "rows n"]:
    """x (gram + ridge |gram| 1)^-1 for a Gram matrix, |gram| its Frobenius norm; 0 where that is 0.

    A singular matrix gets the smallest of a few larger ridges with which it can be factored. A matrix with an entry
    that is no finite number gives NaN.

    Raises ParameterError for a matrix that is none of inner products.

    >>> divide_by_gram(torch.tensor([[2.0, 12.0]]), torch.diag(torch.tensor([1.0, 4.0])))
    tensor([[2., 3.]], dtype=torch.float64)
    """
    x, gram = x.double(), gram.double()
    size = float(gram.norm())
    if size == 0 or not isfinite(size):
        return torch.full_like(x, 0.0 if size == 0 else torch.nan)
    for share in (ridge, *(jitter for jitter in JITTERS if jitter > ridge)):
        raised = gram.clone()
        raised.diagonal().add_(share * size)
        factor, failed = torch.linalg.cholesky_ex(raised)
        if not int(failed):
            return torch.cholesky_solve(x.T, factor).T
    raise ParameterError(
        "a Gram matrix has a negative eigenvalue",
        must_be="a matrix of inner products: symmetric and positive semidefinite",
        fix="collect the statistics again, in float32 or float64",
    )


def descend(
    start: Float[Tensor, "rows columns"], gradient: Slope, steps: int, rate: float
) -> Float[Tensor, "rows columns"]:
    """The matrix after so many steps of Adam, each of which moves an entry by about `rate` at most.

    >>> descend(torch.zeros(1, 1), lambda x: 2 * (x - 3), steps=1, rate=0.5)
    tensor([[0.5000]], dtype=torch.float64)
    """
    x = start.double().clone()
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    for step in range(1, steps + 1):
        slope = gradient(x)
        first.lerp_(slope, 1 - FIRST_DECAY)
        second.mul_(SECOND_DECAY).addcmul_(slope, slope, value=1 - SECOND_DECAY)
        size = second.sqrt().div_(sqrt(1 - SECOND_DECAY**step)).add_(GUARD)
        x.addcdiv_(first, size, value=-rate / (1 - FIRST_DECAY**step))
    return x


def shared_directions(x: Float[Tensor, "models rows columns"], k: int) -> Float[Tensor, "rows rank"]:
    """The first k left singular vectors of all models' heads side by side, each the first of so many equal parts.

    >>> shared_directions(torch.diag(torch.tensor([1.0, 3.0, 2.0])).expand(3, 3, 3), 1).abs().T
    tensor([[0., 1., 0.]], dtype=torch.float64)
    """
    heads = [top_singular(each, min(each.shape) // len(x))[0] for each in x]
    return top_singular(torch.cat(heads, 1), k)[0]


def conflict_slope(x: Float[Tensor, "models rows columns"], scales: Float[Tensor, " models"]) -> Slope:
    """The gradient, for a shift, of  sum_j sum_rows (sum_columns x_j * (x_j - sum_i scale_i (x_i + shift)))^2.

    >>> conflict_slope(torch.ones(1, 1, 2), torch.ones(1))(torch.ones(1, 2))
    tensor([[4., 4.]], dtype=torch.float64)
    """
    rows, scales = x.double().transpose(0, 1).contiguous(), scales.double()
    merged = torch.tensordot(scales, x.double(), 1)[:, None]
    rest = (rows * (rows - merged)).sum(2, keepdim=True)
    total = float(scales.sum())

    def slope(shift: Tensor) -> Tensor:
        gaps = rest - total * (rows @ shift.double()[:, :, None])
        return (gaps.mT @ rows)[:, 0] * (-2 * total)  # type: ignore[no-any-return]

    return slope


def free_slope(slope: Slope, directions: Float[Tensor, "rows rank"]) -> Slope:
    """The gradient without what lies in the span of these orthonormal columns.

    >>> free_slope(lambda x: x, torch.eye(2)[:, :1])(torch.ones(2, 2))
    tensor([[0., 0.],
            [1., 1.]])
    """

    def free(x: Tensor) -> Tensor:
        found = slope(x)
        return found - directions @ (directions.T @ found)

    return free
