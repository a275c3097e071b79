"""PCB-Merging: entries compete within their model and between models, and few of them are left to be averaged."""

from __future__ import annotations

from typing import Literal

from merging.algebra import sparsify
from merging.algebra.masks import TINY, balances
from merging.algebra.signs import sum_models
from merging.lazy import Float, Int, Tensor, torch
from merging.methods.declare import merge_method
from merging.methods.parameters import Measured, Number, Share

Variant = Literal["nlp", "vision"]


def clip_ranks(x: Float[Tensor, "models n"], *, measured: Measured, clip: Share) -> Int[Tensor, "..."]:
    """Second counting round: the lower bits around both magnitudes that entries are clamped to."""
    return sparsify.fine_magnitudes(x, measured["coarse_magnitudes"], _clips(measured, clip))


def limits(*, measured: Measured, clip: Share) -> Float[Tensor, "models ends"]:
    """The magnitudes that entries are clamped to."""
    return sparsify.order_statistics(measured["coarse_magnitudes"], measured["clip_ranks"], _clips(measured, clip))


def coarse_balances(x: Float[Tensor, "models n"], *, measured: Measured, variant: Variant) -> Int[Tensor, "..."]:
    """Third round: the upper bits of the balances."""
    return sparsify.coarse_signed(balances(x, measured["limits"], variant)[0])


def fine_balances(x: Float[Tensor, "models n"], *, measured: Measured, variant: Variant, density: Share) -> Tensor:
    """Fourth round: the lower bits around the balance that those kept exceed, and around the largest."""
    coarse = measured["coarse_balances"]
    return sparsify.fine_signed(balances(x, measured["limits"], variant)[0], coarse, _ranks(coarse, density))


def ends(*, measured: Measured, density: Share) -> Float[Tensor, "models ends"]:
    """The balance that those kept exceed, and the largest."""
    coarse = measured["coarse_balances"]
    return sparsify.signed_statistics(coarse, measured["fine_balances"], _ranks(coarse, density))


PCB_ROUNDS = (sparsify.coarse_magnitudes, clip_ranks, limits, coarse_balances, fine_balances, ends)


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

    Use it where many task vectors compete and density and lambda can be searched, at four more readings of all models;
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


def _clips(measured: Measured, clip: Share) -> Int[Tensor, "models ends"]:
    coarse = measured["coarse_magnitudes"]
    n = int(coarse[0, -1])
    low = min(n, int(n * clip) + 1)
    return torch.tensor([[low, max(low, int(n * (1 - clip) - 1) + 1)]] * len(coarse), device=coarse.device)


def _ranks(coarse: Int[Tensor, "halves uppers"], density: Share) -> Int[Tensor, "models ends"]:
    n = int(coarse[0, -1])
    return torch.tensor([[min(n, int(n * (1 - density)) + 1), n]] * (len(coarse) // 2), device=coarse.device)
