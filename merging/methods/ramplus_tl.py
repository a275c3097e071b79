"""RAM+, tensor by tensor: what one agent changed alone is strengthened by how much it shares with others."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from merging.lazy import Float, Int, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Kind, Measured, NonNegative, Number

Ceiling: TypeAlias = Annotated[float, Kind("number", minimum=0.0, key="alpha")]


def changed_entries(x: Float[Tensor, "models n"], *, epsilon: NonNegative) -> Int[Tensor, "models parts"]:
    """Counting round: how many entries each model changed together with others, and how many alone."""
    changed = [torch.hardshrink(row, epsilon).sign_().abs_() for row in x]
    count = torch.zeros_like(x[0])
    for each in changed:
        count += each
    alone = count.neg_().add_(2).relu_()
    found = []
    for each in changed:
        total = each.count_nonzero()
        lone = each.mul_(alone).count_nonzero()
        found.append(torch.stack([total - lone, lone]))
    return torch.stack(found)


@merge_method("ramplus_tl", paper="arXiv:2601.13572", sees="task_vectors", reach="element", measure=(changed_entries,))
def ramplus_tl(
    task_vectors: Float[Tensor, "models *shape"],
    *,
    measured: Measured,
    r: Number = 0.1,
    ceiling: Ceiling = 0.2,
    epsilon: NonNegative = 1e-5,
) -> Float[Tensor, "*shape"]:
    """Every entry's mean change over the models that changed it, scaled up where one model changed it alone.

    changed_i = |tau_i| > epsilon
    scale_i   = 1 + r min(shared_i / alone_i, alpha),    counts of model i's changed entries of this tensor
    merged    = base + scale_i tau_i where i alone changed the entry, else base + the mean over the i that changed it

    Averaging weakens what a model shares with others; its own entries make up for that, the more the more it shares.
    Entries are counted tensor by tensor, mergekit's variant of RAM+; its "tl" is tensor-local. With r = 0 it is `ram`.
    Changes of at most epsilon are dropped, so equal models that have some are not a fixed point, and the size of the
    changes matters.

    Use it like `ram`, for agents trained by reinforcement learning with sparse task vectors. Where nearly all entries
    are shared, the scale of the few others is at its limit, 1 + r alpha.

    r: how much of the ratio is added to the scale
    alpha: largest ratio of shared to own entries that counts
    epsilon: a change of at most this is none

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("ramplus_tl", torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]]), torch.zeros(3))
    tensor([2.0400, 2.0000, 0.0000])
    """
    shared, alone = measured["changed_entries"].double().unbind(1)
    scales = 1 + r * (shared / alone.clamp(min=1)).clamp(max=ceiling)
    merged, count, scaled = (torch.zeros_like(task_vectors[0]) for _ in range(3))
    changed = torch.empty_like(merged)
    for row, scale in zip(task_vectors, scales.tolist(), strict=True):
        merged += torch.hardshrink(row, epsilon, out=changed)
        scaled.add_(changed, alpha=scale)
        count += torch.ne(changed, 0, out=changed)
    merged /= torch.clamp(count, min=1, out=changed)
    # Where one model changed the entry 2 - count is 1, where none did there is nothing to scale.
    return merged.addcmul_(count.neg_().add_(2).relu_(), scaled.sub_(merged))
