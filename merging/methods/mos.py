"""MOS: each task's adapter drawn towards the mean of those before it."""

from __future__ import annotations

from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import PerModelShare


@merge_method("mos", paper="arXiv:2412.09441", sees="models", reach="span", base="unused")
def mos(*, momentum: PerModelShare = 0.1) -> Float[Tensor, " models"]:
    """The last adapter of a sequence after each was drawn towards the mean of the merged ones before it.

    a_1    = x_1
    a_b    = (1 - momentum_b) x_b + momentum_b (a_1 + … + a_(b-1)) / (b - 1)
    merged = the last a_b

    The order of the models matters. The mean is of adapters that were merged already, not of the x_b. All steps are
    linear and taken on coefficients, so any number of adapters is one pass. The paper keeps every a_b and chooses among
    them by the input; for an earlier one leave out the adapters after it.

    Use it on adapters of the same shape that were trained one after the other, for the newest task with some of what
    the older ones know. Where all tasks count alike the mean is better: MHR-mu (arXiv:2211.03831) starts from the
    uniform average of its skill adapters, which is `linear`, factor by factor because they were trained together.

    momentum: share that comes from the adapters before; the first has none

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("mos", torch.tensor([[0.0], [1.0], [10.0]]), momentum=0.5)
    tensor([5.1250])
    """
    merged = torch.eye(len(momentum), dtype=torch.float64)
    for b, share in enumerate(momentum.tolist()[1:], start=1):
        merged[b] = (1 - share) * merged[b] + share * merged[:b].mean(0)
    return merged[-1]
