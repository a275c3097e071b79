"""MetaGPT: every task vector weighted by its share of the squared lengths, over the whole model."""

from __future__ import annotations

from merging.algebra.geometry import proportions, squared_norms
from merging.lazy import Float, Tensor
from merging.methods.declare import merge_method
from merging.methods.parameters import Measured


@merge_method(
    "metagpt", paper="arXiv:2406.11385", sees="task_vectors", reach="span", measure=(squared_norms,), scope="model"
)
def metagpt(*, measured: Measured) -> Float[Tensor, " models"]:
    """Sum of the task vectors, each with its share of all squared lengths as its lambda.

    lambda_i = |tau_i|^2 / sum_j |tau_j|^2,    lengths over all merged tensors of the model
    merged   = base + sum_i lambda_i tau_i

    The paper bounds the loss that merging adds to each task's model, for linearised models with orthogonal task
    vectors; with these lambdas the sum of the bounds is smallest. One lambda serves the whole model: taken tensor by
    tensor it is `varm`. Tied tensors count once; where nothing changed all share equally.

    Use it where there is no data to choose lambdas with. A model that moved far, by longer training or a higher
    learning rate, takes nearly all: with one long task vector among short ones choose weights for `task_arithmetic`.

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("metagpt", torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.zeros(2))
    tensor([0.4000, 3.2000])
    """
    return proportions(measured["squared_norms"])
