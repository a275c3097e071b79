"""WUDI: the merged task vector that disturbs no task's own directions."""

from __future__ import annotations

from functools import reduce
from operator import matmul
from typing import Annotated, Any, Literal, TypeAlias

from merging.algebra.projections import descend, divide_by_gram
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Count, Kind, NonNegative, Number

Importance: TypeAlias = Annotated[Any, Kind("number", per_model=True, minimum=0.0)]
# Adam's step, the paper's: after 300 of them no entry has moved by more than 0.003.
RATE = 1e-5


def mean(*, weight: Importance, lambda_: Number) -> Float[Tensor, " models"]:
    """The weighted mean of the task vectors, times lambda."""
    return weight * (lambda_ / max(float(weight.sum()), torch.finfo(weight.dtype).tiny))  # type: ignore[no-any-return]


@merge_method("wudi", paper="arXiv:2503.08099", sees="task_vectors", reach="matrix", elsewhere=mean)
def wudi(
    task_vectors: Float[Tensor, "models rows columns"],
    *,
    weight: Importance = 1.0,
    solver: Literal["closed_form", "gradient"] = "closed_form",
    ridge: NonNegative = 1e-10,
    steps: Count = 300,
    lambda_: Number = 1.0,
) -> Float[Tensor, "rows columns"]:
    """The task vector that differs least from each task's on the directions which that task's own rows span.

    tau    = argmin sum_i weight_i |(tau - tau_i) tau_i'|^2 / |tau_i|^2        (Frobenius norms)
           = (sum_i tau_i G_i) (sum_i G_i)^+,    G_i = weight_i tau_i' tau_i / |tau_i|^2
    merged = base + lambda tau

    The rows of a matrix (out, in) span its inputs, whose Gram matrix G_i stands in for: this is `regmean` without data.
    The paper takes 300 steps of Adam from sum_i weight_i tau_i, at 1e-5 each, and ends above the minimum; of `gradient`
    the size of the changes matters and equal models are not a fixed point. `closed_form` costs a Cholesky factor of
    side in, or models x out where that is less; `gradient` a product with a matrix of that side at each step. Zero task
    vectors are left out. Other tensors get the weighted mean, as in FusionBench; the authors leave them at the base.

    Use it for full fine-tunes of one base model without data: it is among the best data-free methods for many tasks.
    Task vectors that span the same inputs, as of nearly equal models, come out as their mean.

    weight: how much each model counts
    solver: closed_form for the minimum, gradient for the paper's descent towards it
    ridge: closed_form's pull to the mean, as a share of |sum_i G_i|; it decides where all task vectors are nearly zero
    steps: steps of the descent
    lambda: scale of the merged task vector

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("wudi", torch.tensor([[[2.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]]), torch.zeros(2, 2))[0]
    tensor([2., 1.])
    """
    x = task_vectors.double()
    sizes = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
    scales = weight.double().sqrt() / sizes
    live = ((sizes != 0) & (weight != 0)).flatten()
    if not bool(live.any()):
        return torch.zeros_like(task_vectors[0])
    x, weight = x[live], weight.double()[live]
    rows = x * scales[live]
    if solver == "gradient":
        merged = _descended(x, rows, (x * weight).sum(0), steps)
    else:
        centre = (x * weight).sum(0) / weight.sum()
        merged = centre + _least_squares(x - centre, rows, ridge)
    return merged.mul(lambda_).to(task_vectors)


def _least_squares(x: Tensor, rows: Tensor, ridge: float) -> Tensor:
    """(sum_i x_i G_i) (sum_i G_i + ridge)^-1 with G_i = rows_i' rows_i, by the smaller of two Gram matrices."""
    stack = rows.flatten(0, 1)
    if stack.shape[0] >= stack.shape[1]:
        return divide_by_gram(_through(x, rows), stack.T @ stack, ridge)
    left = torch.cat([each @ row.T for each, row in zip(x, rows, strict=True)], 1)
    return divide_by_gram(left, stack @ stack.T, ridge) @ stack


def _descended(x: Tensor, rows: Tensor, start: Tensor, steps: int) -> Tensor:
    """The paper's descent, whose gradient is 2 sum_i (tau - tau_i) G_i."""
    stack, pull = rows.flatten(0, 1), _through(x, rows)
    factors = (stack.T, stack) if 2 * stack.shape[0] < stack.shape[1] else (stack.T @ stack,)
    return descend(start, lambda tau: (reduce(matmul, factors, tau) - pull) * 2, steps, RATE)


def _through(x: Tensor, rows: Tensor) -> Tensor:
    """sum_i x_i G_i, multiplied in the cheaper order."""
    total = torch.zeros_like(x[0])
    for each, row in zip(x, rows, strict=True):
        total += torch.linalg.multi_dot([each, row.T, row])
    return total
