"""BitDelta: a fine-tune's changes as one sign per entry and one size per matrix."""

from __future__ import annotations

from merging.lazy import Float, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Number


def whole(*, lambda_: Number) -> Float[Tensor, " models"]:
    """Their changes as they are, times lambda."""
    return torch.tensor([lambda_], dtype=torch.float64)


@merge_method("bitdelta", paper="arXiv:2402.10193", sees="task_vectors", reach="matrix", inputs=(1, 1), elsewhere=whole)
def bitdelta(
    task_vectors: Float[Tensor, "one rows columns"],
    *,
    lambda_: Number = 1.0,
) -> Float[Tensor, "rows columns"]:
    """The base model and the signs of one task vector, all of a matrix with the mean magnitude of its changes.

    merged = base + lambda mean|tau| sign(tau),  mean over the matrix

    That size is the nearest in the sum of squares, if no change is zero. The paper goes on to fit the sizes to the
    fine-tune's outputs, with data, and starts from these. It stores one bit, so an entry that did not change must move
    as well, down in the paper and up in its program; here it stays. Vectors, scalars and embeddings keep their changes;
    the paper leaves the output head whole as well, which here takes another method for that tensor. lambda scales all
    changes. One model is not a fixed point: a storage form loses what it does not store.

    Use it to see what a fine-tune loses when its changes are stored in one bit each; it merges nothing. Changes that
    are few and large, as in sparse fine-tunes, are lost; then keep the largest, by `grafting`.

    lambda: scale of the task vector

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("bitdelta", torch.tensor([[[1.0, -2.0], [3.0, 0.0]]]), torch.zeros(2, 2)).flatten()
    tensor([ 1.5000, -1.5000,  1.5000,  0.0000])
    """
    x = task_vectors[0]
    return x.sign().mul_(lambda_ * float(x.abs().sum(dtype=torch.float64)) / x.numel())
