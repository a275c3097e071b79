"""Grafting: the base model with each task's largest changes grafted on, the rest left alone."""

from __future__ import annotations

from merging.algebra.signs import sum_models
from merging.algebra.sparsify import keep_above
from merging.lazy import Float, Int, Tensor, torch
from merging.methods.declare import merge_method, only_if
from merging.methods.parameters import Measured, Number, PerModel, PerModelShare
from merging.methods.ranks import rank_rounds


def largest_left_out(counts: Int[Tensor, "models one"], *, density: PerModelShare) -> Int[Tensor, "models one"]:
    """Ascending rank of the largest entry left out: 0 where all but zeros are kept, n + 1 where nothing is."""
    pairs = zip(counts[:, 0].tolist(), density.flatten().tolist(), strict=True)
    ranks = [0 if share >= 1 else n + 1 - int(share * n) for n, share in pairs]
    return torch.tensor(ranks, device=counts.device)[:, None]


@merge_method(
    "grafting",
    paper="arXiv:2302.06600",
    sees="task_vectors",
    reach="element",
    measure=tuple(only_if("density", step) for step in rank_rounds("thresholds", largest_left_out)),
    scope="model",
)
def grafting(
    task_vectors: Float[Tensor, "models *shape"],
    *,
    measured: Measured,
    weight: PerModel = 1.0,
    density: PerModelShare = 1e-4,  # noqa: ARG001
    lambda_: Number = 1.0,
) -> Float[Tensor, "*shape"]:
    """Sum of the task vectors' entries that are larger than a threshold over the whole model.

    t_i    = the int(density_i n)-th largest magnitude of tau_i, n entries over all tensors
    merged = base + lambda sum_i weight_i tau_i [|tau_i| > t_i]

    The comparison is the authors' and strict: the entry at the threshold and all that equal it are left out. Density 1
    keeps everything. The paper grafts one task and, with data, goes on to learn the mask; this is the mask it starts
    from, and its several tasks are grafts added up. It is also the data-free form of composable sparse fine-tuning
    (arXiv:2110.07560), whose masks and values are trained. The paper counts no embeddings or output heads among the n
    entries and leaves them at the base; to do that, give those tensors another method.

    Use it to find how few changes carry a task, and to add several tasks whose large changes hardly meet; where they
    meet they add up, and `ties_global` elects instead.

    weight: coefficient of each task vector
    density: share of each model's entries that is grafted; a ten-thousandth carries most of a task in the paper
    lambda: scale of the merged task vector

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("grafting", torch.tensor([[3.0, 1.0, -2.0], [1.0, 2.0, 0.5]]), torch.zeros(3), density=0.7)
    tensor([3., 2., 0.])
    """
    kept = keep_above(task_vectors, measured["thresholds"][:, 0]) if "thresholds" in measured else task_vectors
    return sum_models(kept * weight).mul_(lambda_)
