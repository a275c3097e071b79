"""EMR-Merging: elect one unified task vector; mask and rescale it to get a task's model back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from merging.algebra.signs import disjoint_max, elect_sign
from merging.algebra.sparsify import mass_ratio
from merging.errors import ParameterError
from merging.lazy import Bool, Float, Tensor, torch
from merging.methods.declare import Keeps, merge_method, only_if
from merging.methods.parameters import Kind, Measured

Task: TypeAlias = Annotated[int, Kind("count", minimum=0)]


def masked_masses(x: Float[Tensor, "models n"]) -> Float[Tensor, "models parts"]:
    """Round for the scales: mass of each task vector, and of the unified one where they agree; float64."""
    unified, sign = _unified(x)
    unified.abs_()
    masked = [_mask(row, sign).mul_(unified).sum(dtype=torch.float64) for row in x]
    return torch.stack([torch.stack([row.abs().sum(dtype=torch.float64) for row in x]), torch.stack(masked)], 1)


def unified_and_masks(
    x: Float[Tensor, "models *shape"],
) -> tuple[Float[Tensor, "*shape"], Bool[Tensor, "models *shape"]]:
    """The unified task vector, and where each task agrees with it."""
    unified, sign = _unified(x)
    return unified, torch.stack([_mask(row, sign).bool() for row in x])


def rescalers(*, measured: Measured) -> Float[Tensor, " models"]:
    """What gives each masked vector the mass of its task."""
    return mass_ratio(measured["masked_masses"])


def unknown_task(values: Mapping[str, Any], models: int) -> None:
    """There is a task for each model."""
    if values["task"] > models:
        raise ParameterError(
            f"there is no task {values['task']} to get back",
            must_be=f"at most {models}, the place of a model in the list",
            fix="write the place of the model that you want back",
        )


@merge_method(
    "emr",
    paper="arXiv:2405.17461",
    sees="task_vectors",
    reach="element",
    measure=(only_if("task", masked_masses, when=lambda task: task > 0),),
    scope="model",
    refuses=unknown_task,
    keeps=Keeps("task", unified_and_masks, rescalers),
)
def emr(task_vectors: Float[Tensor, "models *shape"], *, measured: Measured, task: Task = 0) -> Float[Tensor, "*shape"]:
    """The elected changes of largest magnitude, or one task's model made of them by a mask and a scale.

    sign    = sign(sum_i tau_i), - where that is 0
    unified = sign max_i |tau_i|,  over the i whose tau_i has `sign`; 0 where none has
    mask_i  = 1 where tau_i unified > 0, else 0
    scale_i = |tau_i|_1 / |mask_i unified|_1,  over the whole model
    merged  = base + unified for task 0, base + scale_i mask_i unified for task i

    The scale is the paper's, one number per task; the authors' vision program adds up means over tensors, in which
    small ones count too much. A task whose mask is empty has scale 1. Tasks are counted, so the order of the models
    matters. Raises ParameterError where there is no such task.

    Use it to keep many tasks as one vector, a bit per entry and a number each: `merging compress` writes them all; with
    `task` from 1 on the result serves that task alone. The unified vector by itself is TIES without trimming and with
    the largest instead of the mean, which overshoots for many tasks; as one model for all take `ties_global`.

    task: which model to get back, counted from 1; 0 for the unified vector itself

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("emr", torch.tensor([[3.0, 1.0, -2.0], [1.0, 2.0, 5.0]]), torch.zeros(3), task=1)
    tensor([3.6000, 2.4000, 0.0000])
    """
    unified, sign = _unified(task_vectors)
    if task == 0:
        return unified
    return _mask(task_vectors[task - 1], sign).mul_(unified).mul_(float(rescalers(measured=measured)[task - 1]))


def _mask(task_vector: Float[Tensor, "*shape"], sign: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """One where a task vector has the elected sign, else zero."""
    return torch.mul(task_vector, sign).sign_().relu_()


def _unified(x: Float[Tensor, "models *shape"]) -> tuple[Tensor, Tensor]:
    sign = elect_sign(x, tie=-1)
    return disjoint_max(x, sign), sign
