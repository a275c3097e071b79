"""RAM: what one agent changed alone is kept whole, what several changed is averaged."""

from __future__ import annotations

from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import NonNegative


@merge_method("ram", paper="arXiv:2601.13572", sees="task_vectors", reach="element")
def ram(task_vectors: Float[Tensor, "models *shape"], *, epsilon: NonNegative = 1e-5) -> Float[Tensor, "*shape"]:
    """Every entry's mean change over the models that changed it.

    changed_i = |tau_i| > epsilon
    merged    = base + sum_(i changed) tau_i / max(1, number of i changed),    entry by entry

    An entry that a single model changed keeps that change in full. Changes of at most epsilon are dropped, so equal
    models that have some are not a fixed point. epsilon is absolute: the size of the changes matters.

    Use it for agents trained by reinforcement learning, whose task vectors are sparse and overlap little: a mean over
    all models would shrink what each learned alone. Supervised fine-tuning changes nearly every entry by more than
    epsilon, and then this is `linear`.

    epsilon: a change of at most this is none

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("ram", torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]]), torch.zeros(3))
    tensor([2., 2., 0.])
    """
    merged, count = torch.zeros_like(task_vectors[0]), torch.zeros_like(task_vectors[0])
    changed = torch.empty_like(merged)
    for row in task_vectors:
        merged += torch.hardshrink(row, epsilon, out=changed)
        count += torch.ne(changed, 0, out=changed)
    return merged.div_(count.clamp_(min=1))
