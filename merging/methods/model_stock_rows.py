"""Model stock with a ratio of its own for every row."""

from __future__ import annotations

from typing import Literal

from merging.algebra.geometry import gram_along
from merging.algebra.signs import sum_models
from merging.lazy import Float, Tensor
from merging.methods.declare import merge_method
from merging.methods.model_stock import stock_ratio
from merging.methods.parameters import Flag, Unused


@merge_method("model_stock_rows", paper="arXiv:2403.19522", sees="task_vectors", reach="row", inputs=(2, None))
def model_stock_rows(
    task_vectors: Float[Tensor, "models rows columns"],
    *,
    filter_wise: Unused = True,  # noqa: ARG001
    average: Literal["cosine", "angle"] = "cosine",
    clamp: Flag = False,
) -> Float[Tensor, "rows columns"]:
    """Every row of the average, pulled towards the base model as far as the models' rows disagree.

    t_r      = N c_r / (1 + (N - 1) c_r),    c_r the cosine between two task vectors' rows r, averaged over all pairs
    merged_r = base_r + t_r sum_i tau_i,r / N

    This is `model_stock` with `filter_wise`; a row is the last axis, and a tensor of one axis is one row. As there, a
    ratio may be negative, and is 0 where its denominator is within 1e-6 of zero; a row that a model left alone has
    cosine 0 to all others. With `clamp` a c_r below zero counts as 0 and every ratio is in [0, 1]: write it, for rows
    of different models are so short that many c_r are below zero by chance alone.

    Use it where the rows of a matrix, the output neurons, were changed to different extents. It stands in for
    `model_stock` when that is given `filter_wise: true`; there is no need to name it.

    filter_wise: no effect; rows are what this method is about
    average: what is averaged over the pairs, their cosine or their angle
    clamp: count a c below zero as 0, so that every row lies between base model and average

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("model_stock_rows", torch.tensor([[[2.0], [1]], [[2.0], [-1]]]), torch.zeros(2, 1)).tolist()
    [[2.0], [0.0]]
    """
    ratio = stock_ratio(gram_along(task_vectors, 2), average, clamp) / len(task_vectors)
    return sum_models(task_vectors).mul_(ratio.to(task_vectors.dtype)[:, None])
