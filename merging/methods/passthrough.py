"""One model, unchanged or scaled: what layer stacking is made of."""

from __future__ import annotations

from merging.lazy import Float, Tensor
from merging.methods.declare import merge_method
from merging.methods.parameters import PerModel


@merge_method("passthrough", paper="arXiv:2312.15166", sees="models", reach="span", base="unused", inputs=(1, 1))
def passthrough(*, scale: PerModel = 1.0) -> Float[Tensor, " models"]:
    """The one model given, times a scale.

    merged = scale x

    Use it to stack layers of models with `slices`, to drop layers, and to switch blocks off. A slice with two ranges of
    one model as sources and `linear` as method merges layers in depth.

    scale: factor of every entry; 0 on a projection back into the residual stream switches its block off

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("passthrough", torch.tensor([[1.0, -2.0]]), scale=0.5)
    tensor([ 0.5000, -1.0000])
    """
    return scale  # type: ignore[no-any-return]
