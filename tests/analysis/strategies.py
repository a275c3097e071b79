"""Tensors of real and invented architectures, and random block weights on them."""

from __future__ import annotations

from functools import cache

import torch
from hypothesis import strategies as st

from merging.analysis.blocks import BlockWeights
from merging.analysis.diagnose import Placed, diagnose
from merging.checkpoint.tensors import MemoryCheckpoint
from tests import tiny


def invented() -> dict[str, torch.Tensor]:
    """No known family: eleven layers and more, names that contain each other, a normalisation within attention."""
    names = ["stem.conv.weight", "out.weight", "out.weight2", "blocks.weight"]
    for layer in range(13):
        at = f"blocks.{layer}."
        names += [f"{at}attn.{part}" for part in ("qkv.weight", "qkv.bias", "q_norm.weight", "out.weight")]
        names += [f"{at}ffn.w1", f"{at}ffn.w2", f"{at}gain"]
    return {name: torch.zeros(2, 2) for name in names}


@cache
def checkpoint(kind: str) -> MemoryCheckpoint:
    sizes = {"llama": {"layers": 12, "hidden": 8, "intermediate": 8}, "gpt2": {"layers": 11, "hidden": 12}}
    if kind == "invented":
        return MemoryCheckpoint(invented(), {}, "base")
    tensors, config = tiny.KINDS[kind](**sizes.get(kind, {}))
    return MemoryCheckpoint(tensors, config, "base")


@cache
def placed(kind: str) -> tuple[Placed, ...]:
    base = checkpoint(kind)
    return diagnose([base], base, cache=False, workers=1).tensors


KINDS = ("llama", "gpt2", "t5", "bert", "vit", "mixed", "invented")
# Made before any example: a first diagnosis imports modules that draw random numbers, which a strategy must not.
for each in KINDS:
    placed(each)
kinds = st.sampled_from(KINDS)
values = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(-2, 2)


@st.composite
def block_weights(draw: st.DrawFn, holes: bool = True) -> tuple[str, BlockWeights]:
    """A kind of model, and weights that are mostly curves with some blocks changed by hand."""
    kind = draw(kinds)
    weights = BlockWeights.of(placed(kind), draw(values), draw(st.sampled_from(["part", "part", "tensor"])))
    kept = list(weights.values)
    palette = draw(st.lists(values, min_size=1, max_size=4))
    for layer_rule in draw(st.lists(st.sampled_from(["part", "layer", "block"]), max_size=2)):
        for i, block in enumerate(weights.blocks):
            key = {"part": block.part, "layer": block.layer, "block": block.name}[layer_rule]
            choice = draw(st.randoms(use_true_random=False)).choice(palette) if layer_rule == "block" else None
            kept[i] = palette[len(str(key)) % len(palette)] if choice is None else choice
    for i in draw(st.lists(st.integers(0, len(kept) - 1), max_size=3)):
        kept[i] = draw(st.none() | values) if holes else draw(values)
    return kind, BlockWeights(weights.tensors, tuple(kept), weights.plain, weights.by)
