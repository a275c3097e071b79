"""Moving average over a sequence of models."""

from __future__ import annotations

from merging.lazy import Float, Tensor, torch
from merging.methods.declare import Earlier, merge_method
from merging.methods.parameters import PerModelShare


def next_step(merge: Earlier) -> dict[str, float]:
    """The newcomer takes the share that the last model took."""
    return {"weight": merge.parameters["weight"][-1]}


@merge_method(
    "moving_average", paper="arXiv:2408.14471", sees="models", reach="span", base="unused", continued=next_step
)
def moving_average(*, weight: PerModelShare = 0.1) -> Float[Tensor, " models"]:
    """Each model mixed in turn into what the models before it gave.

    state  = x_1
    state  = (1 - weight_i) state + weight_i x_i,    i = 2, 3, … in the order of the list
    merged = the last state

    The order of the models matters. The steps are linear and taken on the coefficients: x_i gets weight_i times all
    1 - weight_j of the models after it. The first model's weight has no meaning and is passed over.

    FoMo-in-Flux has three recipes with this rule, which differ in what each task was trained from: the merged state
    (EMA-merge), the fine-tuned model before it (FT-merge) or the original model (ZS-merge); list the models in the
    order of training, the original one first. The paper's weights are about 0.1 to 0.2. With weights 1/2, 1/3, 1/4, …
    it is the plain mean of all models.

    Use it to keep one model current over many updates, merging each newcomer into the last result: with the result
    first and the newcomer second it is one step of the average. Where all models count alike, `linear`.

    weight: share that each model takes when it joins

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("moving_average", torch.tensor([[0.0], [1.0], [10.0]]), weight=[0, 0.5, 0.2])
    tensor([2.4000])
    """
    coefficients = torch.zeros_like(weight)
    for i, share in enumerate(weight.tolist()):
        coefficients *= 1 - share
        coefficients[i] = share if i else 1.0
    return coefficients
