"""Task arithmetic: task vectors added to the base model."""

from __future__ import annotations

from merging.algebra.signs import sum_scale
from merging.lazy import Float, Tensor
from merging.methods.declare import merge_method
from merging.methods.parameters import Flag, Number, PerModel, PerModelShare, Unused


@merge_method("task_arithmetic", paper="arXiv:2212.04089", sees="task_vectors", reach="span")
def task_arithmetic(
    *,
    weight: PerModel = 1.0,
    normalize: Flag = False,
    lambda_: Number = 1.0,
    density: PerModelShare = 1.0,  # noqa: ARG001
    rescale: Unused = False,  # noqa: ARG001
    int8_mask: Unused = False,  # noqa: ARG001
) -> Float[Tensor, " models"]:
    """Weighted sum of the task vectors, added to the base model.

    merged = base + lambda sum_i weight_i tau_i,    tau_i = x_i - base

    With `normalize` the sum is divided by sum_i weight_i, unless that is zero. A negative weight forgets a task.

    Use it first: with the scale searched on validation data it is as good as most methods that trim or elect where the
    tasks hardly overlap, and costs one reading. The best scale falls as models are added.

    weight: coefficient of each task vector; the paper gives all the same, 0.3 to 0.4 for eight tasks
    normalize: divide by the sum of the weights
    lambda: scale of the merged task vector
    density: no effect; recipes carry it over from methods that trim
    rescale: no effect; recipes carry it over from methods that trim
    int8_mask: no effect; a storage type in other tools

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("task_arithmetic", torch.tensor([[2.0, 1.0], [1.0, 3.0]]), torch.ones(2), weight=0.5)
    tensor([1.5000, 2.0000])
    """
    return weight * sum_scale(weight, normalize, lambda_)  # type: ignore[no-any-return]
