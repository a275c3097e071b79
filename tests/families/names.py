"""Tensor names and configs of real architectures, as their files on disk have them, with few layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests import tiny_shapes


@dataclass(frozen=True)
class Example:
    """A checkpoint's config and names, and what recognising it must find."""

    family: str
    config: dict[str, Any]
    names: tuple[str, ...]
    stacks: dict[str, int]
    count_keys: tuple[str, ...]


ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
NORMS = ("input_layernorm", "post_attention_layernorm")
MLP = ("gate_proj", "up_proj", "down_proj")


def _decoder(
    layers: int,
    *,
    biased: tuple[str, ...] = (),
    norms: tuple[str, ...] = NORMS,
    inner_norms: tuple[str, ...] = (),
    mlp: tuple[str, ...] = tuple(f"mlp.{part}.weight" for part in MLP),
    head: bool = True,
) -> Iterator[str]:
    yield "model.embed_tokens.weight"
    for layer in range(layers):
        at = f"model.layers.{layer}."
        yield from (f"{at}self_attn.{part}.weight" for part in (*ATTENTION, *inner_norms))
        yield from (f"{at}self_attn.{part}.bias" for part in biased)
        yield from (f"{at}{part}" for part in mlp)
        yield from (f"{at}{norm}.weight" for norm in norms)
    yield "model.norm.weight"
    if head:
        yield "lm_head.weight"


def _experts(gate: str, expert: str, parts: tuple[str, ...]) -> tuple[str, ...]:
    return (gate, *(f"{expert}.{e}.{part}.weight" for e in range(8) for part in parts))


def _of_one_stack(family: str, model_type: str, names: Iterator[str], layers: int, **config: Any) -> Example:
    told = {"model_type": model_type, "num_hidden_layers": layers, **config}
    return Example(family, told, tuple(names), {"": layers}, ("num_hidden_layers",))


def _tiny(family: str, kind: Any, stacks: dict[str, int], *count_keys: str, **sizes: Any) -> Example:
    tensors, config = kind(**sizes)
    return Example(family, config, tuple(tensors), stacks, count_keys)


def _neox(layers: int) -> Iterator[str]:
    yield "gpt_neox.embed_in.weight"
    for layer in range(layers):
        at = f"gpt_neox.layers.{layer}."
        yield from (f"{at}attention.{buffer}" for buffer in ("bias", "masked_bias", "rotary_emb.inv_freq"))
        dense = ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
        yield from (f"{at}{part}.{kind}" for part in (*dense, *NORMS) for kind in ("weight", "bias"))
    yield from (f"gpt_neox.final_layer_norm.{kind}" for kind in ("weight", "bias"))
    yield "embed_out.weight"


def _clip(text_layers: int, vision_layers: int) -> Iterator[str]:
    yield from ("logit_scale", "text_projection.weight", "visual_projection.weight")
    yield from (f"text_model.embeddings.{part}" for part in ("token_embedding.weight", "position_embedding.weight"))
    vision = ("class_embedding", "patch_embedding.weight", "position_embedding.weight", "position_ids")
    yield from (f"vision_model.embeddings.{part}" for part in vision)
    inner = (*(f"self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj", "out_proj")), "mlp.fc1", "mlp.fc2")
    for stack, layers in (("text", text_layers), ("vision", vision_layers)):
        for layer in range(layers):
            at = f"{stack}_model.encoder.layers.{layer}."
            yield from (f"{at}{p}.{k}" for p in (*inner, "layer_norm1", "layer_norm2") for k in ("weight", "bias"))
    outer = ("text_model.final_layer_norm", "vision_model.pre_layrnorm", "vision_model.post_layernorm")
    yield from (f"{norm}.{kind}" for norm in outer for kind in ("weight", "bias"))


def _renamed(names: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    return tuple(name.replace(old, new, 1) if name.startswith(old) else name for name in names)


def _roberta() -> Example:
    plain = _tiny("bert", tiny_shapes.bert, {"": 3}, "num_hidden_layers", layers=3)
    body = _renamed(tuple(name for name in plain.names if not name.startswith("cls.")), "bert.", "roberta.")
    dense = tuple(f"lm_head.{part}.{kind}" for part in ("dense", "layer_norm") for kind in ("weight", "bias"))
    names = (*body, *dense, "lm_head.bias", "lm_head.decoder.weight", "lm_head.decoder.bias")
    return Example("bert", {**plain.config, "model_type": "roberta"}, names, plain.stacks, plain.count_keys)


def examples() -> dict[str, Example]:
    """One checkpoint of every kind that the family files claim to know."""
    gemma_norms = (*NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")
    mixtral = _experts("block_sparse_moe.gate.weight", "block_sparse_moe.experts", ("w1", "w2", "w3"))
    qwen = _experts("mlp.gate.weight", "mlp.experts", MLP)
    inner = ("q_norm", "k_norm")
    two = {"text_config": {"num_hidden_layers": 2}, "vision_config": {"num_hidden_layers": 3}}
    counts = ("text_config.num_hidden_layers", "vision_config.num_hidden_layers")
    bert = _tiny("bert", tiny_shapes.bert, {"": 3}, "num_hidden_layers", layers=3, buffers=True)
    return {
        "llama": _tiny("llama", tiny_shapes.llama, {"": 3}, "num_hidden_layers", layers=3),
        "mistral": _of_one_stack("llama", "mistral", _decoder(4), 4),
        "qwen2": _of_one_stack("qwen2", "qwen2", _decoder(3, biased=ATTENTION[:3]), 3),
        "qwen3": _of_one_stack("qwen3", "qwen3", _decoder(3, inner_norms=inner), 3),
        "gemma2": _of_one_stack("gemma", "gemma2", _decoder(3, norms=gemma_norms, head=False), 3),
        "gemma3": _of_one_stack(
            "gemma", "gemma3_text", _decoder(3, norms=gemma_norms, inner_norms=inner, head=False), 3
        ),
        "mixtral": _of_one_stack("mixtral", "mixtral", _decoder(2, mlp=mixtral), 2),
        "qwen3_moe": _of_one_stack("mixtral", "qwen3_moe", _decoder(2, mlp=qwen, inner_norms=inner), 2),
        "gpt2": _tiny("gpt2", tiny_shapes.gpt2, {"": 3}, "n_layer", layers=3, buffers=True),
        "gpt_neox": _of_one_stack("gpt_neox", "gpt_neox", _neox(3), 3),
        "bert": bert,
        "headless bert": Example("bert", bert.config, _renamed(bert.names, "bert.", ""), bert.stacks, bert.count_keys),
        "roberta": _roberta(),
        "t5": _tiny("t5", tiny_shapes.t5, {"encoder": 3, "decoder": 3}, "num_layers", "num_decoder_layers", layers=3),
        "vit": _tiny("vit", tiny_shapes.vit, {"": 3}, "num_hidden_layers", layers=3),
        "clip": Example("clip", {"model_type": "clip", **two}, tuple(_clip(2, 3)), {"text": 2, "vision": 3}, counts),
    }


EXAMPLES = examples()
