"""WiSE-FT: a model between the base model and its fine-tune."""

from __future__ import annotations

from merging.lazy import Float, Tensor
from merging.methods.declare import merge_method
from merging.methods.parameters import PerModelShare


@merge_method("wise_ft", paper="arXiv:2109.01903", sees="task_vectors", reach="span", inputs=(1, 1))
def wise_ft(*, weight: PerModelShare = 0.5) -> Float[Tensor, " models"]:
    """Point on the straight line from the base model to its fine-tune.

    merged = (1 - weight) base + weight x = base + weight tau

    All tensors take part, the head included. The paper's rule of thumb is 0.5; it sweeps 0 to 1 in steps of 0.1 where
    there is data to choose by. `task_arithmetic` has the same line beyond its ends.

    RiFT (arXiv:2308.02533) is the same with one module: the one whose change hurts robustness least is fine-tuned, and
    the largest weight is taken that costs no robustness. Write that weight with a `filter` for the module; for all
    other tensors 0 keeps the base model's and 1 the fine-tune's, which are equal if only the module was trained.

    Use it on a model that was fine-tuned on a narrow set and lost breadth: out-of-distribution accuracy comes back for
    little of what was gained.

    weight: how far to go; 0 gives the base model, 1 the fine-tune

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("wise_ft", torch.tensor([[4.0, 0.0]]), torch.tensor([2.0, 1.0]), weight=0.25)
    tensor([2.5000, 0.7500])
    """
    return weight  # type: ignore[no-any-return]
