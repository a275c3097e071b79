"""Statistics that some methods want beside every model, of the model at its own task's training examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from benchmarks.quality.encoder import Encoder, embed
from benchmarks.quality.texts import Split

# Examples of each task; a few hundred are usual.
EXAMPLES = 256
Statistic: TypeAlias = Callable[[Encoder, Tensor, Split, float], dict[str, Tensor]]


def fisher(encoder: Encoder, head: Tensor, split: Split, scale: float) -> dict[str, Tensor]:
    """Mean squared gradient of the log-likelihood of a class that the model itself draws, one example at a time."""
    entries = {name: each for name, each in encoder.named_parameters() if each.requires_grad}
    squares = {name: torch.zeros_like(each) for name, each in entries.items()}
    draw = torch.Generator().manual_seed(0)
    for row in split.rows:
        logits = scale * embed(encoder, row[None]) @ head.T
        label = torch.multinomial(logits.detach().softmax(1)[0], 1, generator=draw)
        loss = torch.nn.functional.cross_entropy(logits, label)
        for total, slope in zip(squares.values(), torch.autograd.grad(loss, [*entries.values()]), strict=True):
            total.addcmul_(slope, slope, value=1 / len(split))
    return squares


def gram_inputs(encoder: Encoder, head: Tensor, split: Split, scale: float) -> dict[str, Tensor]:  # noqa: ARG001
    """Mean of x x' over the inputs x of every linear map, tokens counted one by one; by the name of its weights."""
    sums: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[torch.nn.Module, tuple[Tensor, ...]], None]:
        def add(_: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
            x = given[0].reshape(-1, given[0].shape[-1])
            sums[name] = sums.get(name, 0.0) + (x.T @ x).double()

        return add

    linear = {name: each for name, each in encoder.named_modules() if isinstance(each, torch.nn.Linear)}
    hooks = [each.register_forward_pre_hook(watch(f"{name}.weight")) for name, each in linear.items()]
    with torch.inference_mode():
        for row in split.rows:
            embed(encoder, row[None])
    for hook in hooks:
        hook.remove()
    tokens = int(split.lengths.sum())
    return {name: (total / tokens).float() for name, total in sums.items()}


# By the names under which methods ask for them.
STATISTICS: Mapping[str, Statistic] = {"fisher": fisher, "gram_inputs": gram_inputs}
