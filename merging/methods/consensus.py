"""Consensus task arithmetic: keep the entries of the merged task vector that several tasks need."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from merging.algebra.masks import tall_mask
from merging.algebra.signs import sum_models
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Count, Kind, Number, PerModel

Threshold: TypeAlias = Annotated[Any, Kind("number", per_model=True, minimum=0.0)]


@merge_method("consensus", paper="arXiv:2405.07813", sees="task_vectors", reach="element")
def consensus(
    task_vectors: Float[Tensor, "models *shape"],
    *,
    weight: PerModel = 1.0,
    mask_threshold: Threshold = 0.4,
    agreement: Count = 2,
    lambda_: Number = 0.3,
) -> Float[Tensor, "*shape"]:
    """Weighted sum of the task vectors, kept where the masks of enough tasks keep it.

    tau    = sum_i weight_i tau_i
    mask_i = 1 where |tau_i| > mask_threshold_i |tau - tau_i|, else 0
    merged = base + lambda tau [sum_i mask_i >= agreement]

    A mask keeps the entries where the merged vector is nearer to the task's own than the base model is, at threshold 1;
    lower ones keep more. With agreement 2 entries go that no task needs, and those that only one does, which the paper
    calls catastrophic and selfish; with 1 the former alone. More than there are models means all of them. Masks compare
    unscaled vectors, as the authors' program does. Equal models are a fixed point if the weights add up to 1 and lambda
    is 1; the defaults add up, so they are none.

    Use it in place of `task_arithmetic` for many tasks, with the same search over lambda. With two models it keeps what
    both want, which is little. To get one task back instead of merging take `tall_masks`.

    weight: coefficient of each task vector in the sum
    mask_threshold: how large a task's change must be beside its distance from the sum; the paper searches 0.2 to 0.6
    agreement: number of tasks whose masks must keep an entry
    lambda: scale of the merged task vector; the paper's for eight tasks is 0.3

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("consensus", torch.tensor([[2.0, 2.0, 0.0], [1.0, -2.0, 3.0]]), torch.zeros(3), lambda_=1)
    tensor([3., 0., 0.])
    """
    merged = sum_models(task_vectors * weight)
    # Starts at minus what is needed, half a vote to the side, so that the sign decides.
    votes = torch.full_like(merged, 0.5 - min(agreement, len(task_vectors)))
    for row, threshold in zip(task_vectors, mask_threshold, strict=True):
        votes += tall_mask(row, merged, threshold)
    return merged.mul_(votes.sign_().relu_()).mul_(lambda_)
