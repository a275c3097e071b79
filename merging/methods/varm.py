"""FuseChat-VaRM: every task vector weighted by how much it changed the tensor."""

from __future__ import annotations

from merging.algebra.geometry import proportions, squared_norms
from merging.lazy import Float, Tensor
from merging.methods.declare import merge_method
from merging.methods.parameters import Measured


@merge_method("varm", paper="arXiv:2402.16107", sees="task_vectors", reach="span", measure=(squared_norms,))
def varm(*, measured: Measured) -> Float[Tensor, " models"]:
    """Mean of the task vectors, weighted tensor by tensor with their mean squares.

    weight_i = mean(tau_i^2) / sum_j mean(tau_j^2),    means over the tensor's entries
    merged   = base + sum_i weight_i tau_i

    The paper also tries layers and single entries as the unit and keeps the parameter matrix; so does this. A tensor
    that no model changed has equal weights. `sce` is the same with a selection before and a sign election after.

    Use it for chat models fused from different teachers, where for each tensor the model that learned most there should
    lead. `metagpt` weighs the whole model alike; `linear` lets nobody lead.

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("varm", torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.zeros(2))
    tensor([0.4000, 3.2000])
    """
    return proportions(measured["squared_norms"])
