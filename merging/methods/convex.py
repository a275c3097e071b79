"""A model for a preference among tasks, from the simplex between the tasks' models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from merging.errors import ParameterError
from merging.lazy import Float, Tensor
from merging.methods.declare import merge_method
from merging.methods.parameters import Kind

Preference: TypeAlias = Annotated[Any, Kind("number", per_model=True, minimum=0.0)]


def no_preference(values: Mapping[str, Any], models: int) -> None:  # noqa: ARG001
    """Somebody must be preferred."""
    if not any(values["weight"]):
        raise ParameterError(
            "there is no model between preferences that are all 0",
            must_be="a weight above 0 for at least one model",
            fix="write how much each model counts, or leave the weights out for equal parts",
        )


@merge_method("convex", paper="arXiv:2310.02995", sees="models", reach="span", base="unused", refuses=no_preference)
def convex(*, weight: Preference = 1.0) -> Float[Tensor, " models"]:
    """The model that a preference among tasks asks for, a convex combination of the tasks' models.

    merged = sum_i weight_i x_i / sum_i weight_i,    weight_i >= 0

    IBCL keeps a few posterior means for each task and answers any preference by such a combination, with no training;
    a task with several means gives each an equal part of its preference. Its credible regions around the result need
    the posteriors' variances and are not part of the merge.

    A negative weight would leave the hull of the models and is refused, as are weights that are all zero, with a
    ParameterError: this is what sets it apart from `linear`, which extrapolates.

    Use it to walk between tasks: the same models, another preference for every user. The hull is only as good as the
    path between the models: fine-tunes of one base model, not models trained apart.

    weight: preference for each model, 0 or more

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("convex", torch.tensor([[1.0, 4.0], [3.0, 0.0]]), weight=[3, 1])
    tensor([1.5000, 3.0000])
    """
    return weight / weight.sum()  # type: ignore[no-any-return]
