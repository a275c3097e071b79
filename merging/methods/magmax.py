"""MagMax: of every entry the largest change."""

from __future__ import annotations

from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Number


@merge_method("magmax", paper="arXiv:2407.06322", sees="task_vectors", reach="element")
def magmax(task_vectors: Float[Tensor, "models *shape"], *, lambda_: Number = 0.5) -> Float[Tensor, "*shape"]:
    """The change of largest magnitude in every entry, scaled.

    merged = base + lambda tau_j,    j the model with the largest |tau_j| of the entry

    Of equal magnitudes the later model's is taken, so the order of the models matters where changes are equal and
    opposite, which among bfloat16 models is often.

    Use it for models fine-tuned one after the other, each from the last, or on many small tasks: no change is averaged
    away, and signs never cancel. The longest task vector wins most entries, so lengths should be alike. `ties` asks all
    models for the sign first.

    lambda: scale of the merged task vector; 1 makes equal models a fixed point

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("magmax", torch.tensor([[1.0, -3.0, 2.0], [-2.0, 1.0, -2.0]]), torch.zeros(3))
    tensor([-1.0000, -1.5000, -1.0000])
    """
    largest = task_vectors[0].clone()
    magnitude, later = torch.empty_like(largest), torch.empty_like(largest)
    for row in task_vectors[1:]:
        # 1 where the later model's change is taken, else 0; a mask of booleans would cost five times as much.
        torch.ge(torch.abs(row, out=later), torch.abs(largest, out=magnitude), out=later)
        torch.lerp(largest, row, later, out=largest)
    return largest.mul_(lambda_)
