"""TALL masks: one task's model read off the merged one."""

from __future__ import annotations

from merging.algebra.masks import tall_mask
from merging.algebra.signs import sum_models
from merging.lazy import Bool, Float, Tensor, torch
from merging.methods.consensus import Threshold
from merging.methods.declare import Keeps, merge_method
from merging.methods.emr import unknown_task
from merging.methods.parameters import Count, Number, PerModel


def merged_and_masks(
    task_vectors: Float[Tensor, "models *shape"], *, weight: PerModel = 1.0, mask_threshold: Threshold = 0.4
) -> tuple[Float[Tensor, "*shape"], Bool[Tensor, "models *shape"]]:
    """The weighted sum, and where it serves each task."""
    merged = sum_models(task_vectors * weight)
    pairs = zip(task_vectors, mask_threshold, strict=True)
    return merged, torch.stack([tall_mask(row, merged, threshold).bool() for row, threshold in pairs])


def one_scale(*, weight: PerModel = 1.0, lambda_: Number = 1.0) -> Float[Tensor, " models"]:
    """The same for every task."""
    return torch.full((len(weight),), lambda_, dtype=torch.float64)


@merge_method(
    "tall_masks",
    paper="arXiv:2405.07813",
    sees="task_vectors",
    reach="element",
    refuses=unknown_task,
    keeps=Keeps("task", merged_and_masks, one_scale),
)
def tall_masks(
    task_vectors: Float[Tensor, "models *shape"],
    *,
    task: Count = 1,
    weight: PerModel = 1.0,
    mask_threshold: Threshold = 0.4,
    lambda_: Number = 1.0,
) -> Float[Tensor, "*shape"]:
    """The weighted sum of the task vectors where it serves one task, the base model elsewhere.

    tau    = sum_i weight_i tau_i
    mask   = 1 where |tau_task| > mask_threshold_task |tau - tau_task|, else 0
    merged = base + lambda mask tau

    The paper keeps one vector and a mask of one bit per entry and task, as `merging compress` writes them, and finds
    each task's threshold with data; it may be another for each model. The masks compare unscaled vectors. Equal models
    are a fixed point if the weights add up to 1. The task is counted, so the order of the models matters. Raises
    ParameterError where there is no such task.

    Use it to keep several models as one vector and masks, or to see what that costs a task. It does not merge: the
    result serves the chosen task alone. One model for all tasks is `consensus`; `emr` keeps one vector and a scale per
    task.

    task: which model to read off, counted from 1
    weight: coefficient of each task vector in the sum
    mask_threshold: how large the task's change must be beside its distance from the sum; the paper searches 0.2 to 0.6
    lambda: scale of the masked sum

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("tall_masks", torch.tensor([[2.0, 2.0, 0.0], [1.0, -2.0, 3.0]]), torch.zeros(3), task=1)
    tensor([3., 0., 0.])
    """
    merged = sum_models(task_vectors * weight)
    return tall_mask(task_vectors[task - 1], merged, mask_threshold[task - 1]).mul_(merged).mul_(lambda_)
