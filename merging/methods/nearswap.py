"""NearSwap: what two models nearly agree on is taken from the other one."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from merging.lazy import Float, Tensor
from merging.methods.declare import merge_method
from merging.methods.parameters import Kind

# Differences count as this at least; mergekit's figure.
SMALLEST = 1e-6
Length: TypeAlias = Annotated[float, Kind("number", minimum=0.0, example=0.0001)]


@merge_method("nearswap", paper="arXiv:2403.13257", sees="task_vectors", reach="element", inputs=(1, 1))
def nearswap(task_vectors: Float[Tensor, "models *shape"], *, t: Length) -> Float[Tensor, "*shape"]:
    """The base model moved towards another one, by `t` at most in every entry.

    weight = min(t / |tau|, 1), entry by entry
    merged = base + weight tau = base + tau clipped to [-t, t]

    So entries that differ by no more than t are the other model's, and what differs more is all but the base model's.
    mergekit divides by 1e-6 at least, and so does this: a t below that moves small entries by less. It is a heuristic
    without a paper, named after mergekit's.

    Use it to lend a model some of the manner of another that was not made from it. t is a length in weight space, not a
    fraction, so the size of the changes matters: look at it first. Between a model and its own fine-tune `wise_ft` is
    the better line. Where a change is above t the other model is not reached, and not a fixed point.

    t: largest change of an entry, 0 or more

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("nearswap", torch.tensor([[1.5, -3.0, 0.0]]), torch.tensor([1.0, 1.0, 1.0]), t=1.0)
    tensor([1.5000, 0.0000, 0.0000])
    """
    return task_vectors[0].mul(min(1.0, t / SMALLEST)).clamp_(-t, t)
