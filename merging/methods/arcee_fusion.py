"""Arcee fusion: only the changes that matter most to the distribution of a row are taken."""

from __future__ import annotations

from merging.algebra.sparsify import coarse_magnitudes, fine_magnitudes, order_statistics
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method

# Added to both distributions; mergekit's figure.
SMALLEST = 1e-8
# Entries whose distributions are compared at once, and that are counted at once.
COMPARED = 1 << 16
COUNTED = 1 << 18


@merge_method("arcee_fusion", paper="arXiv:2403.13257", sees="models", reach="tensor", base="required", inputs=(2, 2))
def arcee_fusion(models: Float[Tensor, "models *shape"]) -> Float[Tensor, "*shape"]:
    """Entries of the other model where its change is important, the base model's everywhere else.

    p, q       = softmax(x), softmax(base) along the last axis, 1e-8 added to each
    importance = |x - base| sum_row p log(p / q)
    threshold  = median + 1.5 (Q3 - Q1) of the importance over the tensor
    merged     = x where importance >= threshold, else base

    Q1, median and Q3 are the ascending entries number 1 + floor(k (n - 1) / 4), k = 1, 2, 3, exact and of all entries:
    mergekit cuts the position likewise, but looks at a million entries drawn at random if there are more, so that its
    merges of large tensors differ from run to run. The sum of a row is taken in float64; in float32 most of it is
    rounding between fine-tunes of one model. Where all importance is 0, as with rows of one entry, x is taken. A
    softmax does not scale with the weights, so the size of the changes matters to which entries are taken.

    Use it to add the marked changes of one fine-tune to another model and nothing else; it is a heuristic without a
    paper. The softmax of a row of weights stands for nothing that the model computes: `ties` or `breadcrumbs` of one
    task vector select by size alone.

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("arcee_fusion", torch.tensor([[0.0, 0.1, 0.2, 0.3, 3.0]]), torch.zeros(5))
    tensor([0., 0., 0., 0., 3.])
    """
    columns = models.shape[-1] if models.ndim > 1 else 1
    base, other = models.reshape(2, models[0].numel() // max(1, columns), columns)
    importance = _importance(base, other)
    take = torch.ge(importance, _threshold(importance), out=importance)
    return torch.lerp(base, other, take).reshape(models.shape[1:])


def _importance(base: Float[Tensor, "rows columns"], other: Float[Tensor, "rows columns"]) -> Tensor:
    importance = (other - base).abs_()
    step = max(1, COMPARED // max(1, base.shape[1]))
    for size, x, b in zip(*(torch.split(each, step) for each in (importance, other, base)), strict=True):
        p, q = (torch.softmax(each.double(), -1).add_(SMALLEST) for each in (x, b))
        # Never negative, but for rounding.
        divergence = (p / q).log_().mul_(p).sum(-1, keepdim=True).clamp_(min=0)
        size *= divergence.to(size.dtype)
    return importance


def _threshold(importance: Float[Tensor, "rows columns"]) -> float:
    parts = torch.split(importance.reshape(1, -1), COUNTED, 1)
    ranks = torch.tensor([[1 + k * (importance.numel() - 1) // 4 for k in (1, 2, 3)]], device=importance.device)
    coarse = sum((coarse_magnitudes(part) for part in parts[1:]), start=coarse_magnitudes(parts[0]))
    fine = sum((fine_magnitudes(part, coarse, ranks) for part in parts[1:]), fine_magnitudes(parts[0], coarse, ranks))
    first, median, third = order_statistics(coarse, fine, ranks)[0].tolist()
    return float(median + 1.5 * (third - first))
