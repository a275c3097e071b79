"""PCB-Merging: entries compete within their model and between models, and few of them are left to be averaged."""

from __future__ import annotations

from typing import Literal

from merging.algebra.masks import TINY, balances
from merging.algebra.signs import sum_models
from merging.lazy import Float, Int, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Measured, Number, Share
from merging.methods.ranks import rank_rounds

Variant = Literal["nlp", "vision"]


def clipped_at(counts: Int[Tensor, "models one"], *, clip: Share) -> Int[Tensor, "models ends"]:
    """Ranks of the magnitudes that entries are clamped to."""
    n = int(counts[0, 0])
    low = min(n, int(n * clip) + 1)
    return torch.tensor([[low, max(low, int(n * (1 - clip) - 1) + 1)]] * len(counts), device=counts.device)


def halves(x: Float[Tensor, "models n"], *, measured: Measured, variant: Variant) -> Float[Tensor, "halves n"]:
    """The balances' positive parts, model by model, then their negative parts."""
    found = balances(x, measured["limits"], variant)[0]
    return torch.cat([found.relu(), found.neg_().relu_()])


def ends_of_halves(counts: Int[Tensor, "halves one"], *, density: Share) -> Int[Tensor, "halves ends"]:
    """Ranks of the balance that those kept exceed, and of the largest, among both parts' magnitudes."""
    n = int(counts[0, 0])
    low, models = min(n, int(n * (1 - density)) + 1), len(counts) // 2
    return torch.tensor([[low, n]] * models + [[n + 1 - low, 1]] * models, device=counts.device)


def ends(*, measured: Measured) -> Float[Tensor, "models ends"]:
    """The balance that those kept exceed, and the largest; one part of either is zero."""
    positive, negative = measured["halved"].chunk(2)
    return positive - negative


PCB_ROUNDS = (*rank_rounds("limits", clipped_at), *rank_rounds("halved", ends_of_halves, halves), ends)


@merge_method("pcb", paper="arXiv:2410.02396", sees="task_vectors", reach="element", measure=PCB_ROUNDS, scope="model")
def pcb(
    task_vectors: Float[Tensor, "models *shape"],
    *,
    measured: Measured,
    density: Share = 0.1,  # noqa: ARG001
    clip: Share = 0.01,  # noqa: ARG001
    variant: Variant = "nlp",
    lambda_: Number = 1.0,
) -> Float[Tensor, "*shape"]:
    """Mean of the clipped task vectors, each entry weighted by its balance of parameter competition.

    clipped_i = tau_i, its magnitude clamped to those at places int(clip n) and int((1 - clip) n - 1) of n in order
    z_i       = |clipped_i| moved and scaled to [0, 1]
    balance_i = exp(N z_i^2) inter_i,  N models
    inter_i   = tanh(tau_i sum_j tau_j) for nlp, sum_j tanh(sign(tau_i) z_i sign(tau_j) z_j) for vision
    weight_i  = max(0, balance_i - b_i) / (largest balance_i - b_i),  b_i the balance at place int((1 - density) n)
    merged    = base + lambda sum_i weight_i clipped_i / sum_i weight_i,  base where no weight is positive

    Places are counted over the whole model, from 0. All this is the authors' programs'; the paper has a softmax, and a
    third program mixes both inter terms. tanh is linear for small changes only, so the size of the changes matters to
    nlp. A model whose magnitudes are all equal has no weight. Equal models are thinned, so not a fixed point.

    Use it where many task vectors compete and density and lambda can be searched, at two more readings of all models;
    for two or three of them, or without a search, take `ties_global`.

    density: share of each model's entries that keeps any weight; the authors take 0.05 to 0.2
    clip: share of each model's magnitudes that is clamped at either end; the authors take 0.0001 or 0.01
    variant: inter term of the authors' language or of their vision program
    lambda: scale of the merged task vector; the authors search 0.8 to 2.2

    >>> import torch
    >>> from merging.methods.apply import merge_tensor
    >>> merge_tensor("pcb", torch.tensor([[3.0, 1.0, 0.0], [2.0, -1.0, 4.0]]), torch.zeros(3), density=0.7, clip=0)
    tensor([2.8554, 0.0000, 4.0000])
    """
    weights, clipped = balances(task_vectors, measured["limits"], variant)
    for row, (least, largest) in zip(weights, measured["ends"].tolist(), strict=True):
        row.clamp_(least, largest).sub_(least).div_(max(largest - least, TINY))
    total = sum_models(weights).clamp_(min=1e-12)
    return sum_models(clipped.mul_(weights)).div_(total).mul_(lambda_)
