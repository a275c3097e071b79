"""How well a model reads the digits of each task."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from merging.checkpoint.tensors import Checkpoint
from merging.demo.vit import classify, weights
from merging.demo.zoo import Digits, Zoo, find_zoo
from merging.lazy import torch


def score(
    checkpoint: Checkpoint, part: Literal["validation", "test"] = "test", zoo: Zoo | None = None
) -> dict[str, float]:
    """Share of the held-out digits that a model reads right, for each task of the zoo."""
    return _accuracies(checkpoint, {name: held for name, held in _held_out(zoo, part).items() if name != "plain"})


def score_plain(checkpoint: Checkpoint, part: Literal["validation", "test"] = "test", zoo: Zoo | None = None) -> float:
    """Share of the upright digits that a model reads right."""
    return _accuracies(checkpoint, {"plain": _held_out(zoo, part)["plain"]})["plain"]


def _accuracies(checkpoint: Checkpoint, held_out: Mapping[str, Digits]) -> dict[str, float]:
    tensors = weights(checkpoint)
    right: dict[str, float] = {}
    with torch.inference_mode():
        for task, digits in held_out.items():
            answers = classify(tensors, checkpoint.config, digits.images).argmax(dim=1)
            right[task] = float((answers == digits.labels).double().mean())
    return right


def _held_out(zoo: Zoo | None, part: Literal["validation", "test"]) -> Mapping[str, Digits]:
    return _loaded((zoo or find_zoo()).folder, part)


@cache
def _loaded(folder: Path, part: Literal["validation", "test"]) -> Mapping[str, Digits]:
    return Zoo(folder).digits(part)
