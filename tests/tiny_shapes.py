"""Names, shapes, entries and configs of tiny checkpoints, family by family; see tests/tiny.py."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
Config = dict[str, Any]
Tensors = dict[str, Tensor]


def normal(shape: tuple[int, ...], name: str, seed: int) -> Tensor:
    """Standard normal float32 numbers addressed by name and seed."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + crc32(name.encode()))
    return torch.randn(shape, generator=generator)


def _filled(shapes: Shapes, seed: int) -> Tensors:
    """Norm weights around 1, everything else around 0, at the scale of a trained model."""
    norms = (
        "norm.weight",
        "LayerNorm.weight",
        "ln_1.weight",
        "ln_2.weight",
        "ln_f.weight",
        "_before.weight",
        "_after.weight",
    )
    return {
        name: 1 + 0.1 * normal(shape, name, seed)
        if name.endswith(norms)
        else normal(shape, name, seed) * (0.02 if len(shape) < 2 else 0.08)
        for name, shape in shapes.items()
    }


def llama(
    layers: int = 2,
    hidden: int = 64,
    intermediate: int = 112,
    heads: int = 4,
    groups: int = 2,
    vocabulary: int = 97,
    tied: bool = False,
    seed: int = 0,
) -> tuple[Tensors, Config]:
    """LlamaForCausalLM; `tied`: no lm_head.weight, as small models ship."""
    head = hidden // heads
    shapes: Shapes = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        shapes |= {
            f"{at}self_attn.q_proj.weight": (hidden, hidden),
            f"{at}self_attn.k_proj.weight": (groups * head, hidden),
            f"{at}self_attn.v_proj.weight": (groups * head, hidden),
            f"{at}self_attn.o_proj.weight": (hidden, hidden),
            f"{at}mlp.gate_proj.weight": (intermediate, hidden),
            f"{at}mlp.up_proj.weight": (intermediate, hidden),
            f"{at}mlp.down_proj.weight": (hidden, intermediate),
            f"{at}input_layernorm.weight": (hidden,),
            f"{at}post_attention_layernorm.weight": (hidden,),
        }
    shapes |= {"model.norm.weight": (hidden,)} | ({} if tied else {"lm_head.weight": (vocabulary, hidden)})
    return _filled(shapes, seed), {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": head,
        "vocab_size": vocabulary,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "custom_key_of_the_author": "survives a merge",
    }


def gpt2(
    layers: int = 2, hidden: int = 48, vocabulary: int = 97, buffers: bool = False, seed: int = 0
) -> tuple[Tensors, Config]:
    """GPT2LMHeadModel, head tied to the embedding; `buffers`: the causal masks that old files carry, as U8."""
    positions = 64
    shapes: Shapes = {"transformer.wte.weight": (vocabulary, hidden), "transformer.wpe.weight": (positions, hidden)}
    linear = {"attn.c_attn": (hidden, 3 * hidden), "attn.c_proj": (hidden, hidden)}
    linear |= {"mlp.c_fc": (hidden, 4 * hidden), "mlp.c_proj": (4 * hidden, hidden)}
    for layer in range(layers):
        at = f"transformer.h.{layer}."
        shapes |= {f"{at}{norm}.{kind}": (hidden,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}
        for part, shape in linear.items():
            shapes |= {f"{at}{part}.weight": shape, f"{at}{part}.bias": (shape[1],)}
    shapes |= {"transformer.ln_f.weight": (hidden,), "transformer.ln_f.bias": (hidden,)}
    tensors = _filled(shapes, seed)
    if buffers:
        mask = torch.ones(positions, positions, dtype=torch.uint8).tril()[None, None]
        tensors |= {f"transformer.h.{layer}.attn.bias": mask.clone() for layer in range(layers)}
    return tensors, {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": hidden,
        "n_layer": layers,
        "n_head": 4,
        "n_positions": positions,
        "vocab_size": vocabulary,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def bert(
    layers: int = 2, hidden: int = 48, vocabulary: int = 97, buffers: bool = False, seed: int = 0
) -> tuple[Tensors, Config]:
    """BertForMaskedLM, decoder tied to the embedding; `buffers`: the position_ids that old files carry, as I64."""
    positions = 64
    at = "bert.embeddings."
    shapes: Shapes = {
        f"{at}word_embeddings.weight": (vocabulary, hidden),
        f"{at}position_embeddings.weight": (positions, hidden),
    }
    shapes |= {f"{at}token_type_embeddings.weight": (2, hidden)} | _normed(f"{at}LayerNorm", hidden)
    for layer in range(layers):
        at = f"bert.encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            shapes |= _dense(f"{at}attention.self.{part}", hidden, hidden)
        shapes |= _dense(f"{at}attention.output.dense", hidden, hidden) | _normed(
            f"{at}attention.output.LayerNorm", hidden
        )
        shapes |= _dense(f"{at}intermediate.dense", 4 * hidden, hidden) | _dense(
            f"{at}output.dense", hidden, 4 * hidden
        )
        shapes |= _normed(f"{at}output.LayerNorm", hidden)
    shapes |= {"cls.predictions.bias": (vocabulary,)} | _dense("cls.predictions.transform.dense", hidden, hidden)
    shapes |= _normed("cls.predictions.transform.LayerNorm", hidden)
    tensors = _filled(shapes, seed)
    if buffers:
        tensors["bert.embeddings.position_ids"] = torch.arange(positions)[None]
    return tensors, {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": positions,
        "vocab_size": vocabulary,
        "type_vocab_size": 2,
    }


def _dense(name: str, out: int, into: int) -> Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _normed(name: str, hidden: int) -> Shapes:
    return {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}


def t5(layers: int = 2, hidden: int = 48, vocabulary: int = 97, seed: int = 0) -> tuple[Tensors, Config]:
    """T5ForConditionalGeneration of the first kind: relu, head tied to the shared embedding."""
    heads, head, wide = 4, 12, 96
    shapes: Shapes = {"shared.weight": (vocabulary, hidden)}
    for stack, attentions in (("encoder", ("SelfAttention",)), ("decoder", ("SelfAttention", "EncDecAttention"))):
        for layer in range(layers):
            at = f"{stack}.block.{layer}.layer."
            for step, attention in enumerate(attentions):
                inner = {f"{at}{step}.{attention}.{part}.weight": (heads * head, hidden) for part in "qkv"}
                shapes |= inner | {f"{at}{step}.{attention}.o.weight": (hidden, heads * head)}
                if layer == 0 and step == 0:
                    shapes[f"{at}0.SelfAttention.relative_attention_bias.weight"] = (32, heads)
                shapes[f"{at}{step}.layer_norm.weight"] = (hidden,)
            last = f"{at}{len(attentions)}."
            shapes |= {
                f"{last}DenseReluDense.wi.weight": (wide, hidden),
                f"{last}DenseReluDense.wo.weight": (hidden, wide),
            }
            shapes[f"{last}layer_norm.weight"] = (hidden,)
        shapes[f"{stack}.final_layer_norm.weight"] = (hidden,)
    return _filled(shapes, seed), {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "d_model": hidden,
        "d_kv": head,
        "d_ff": wide,
        "num_layers": layers,
        "num_decoder_layers": layers,
        "num_heads": heads,
        "vocab_size": vocabulary,
        "relative_attention_num_buckets": 32,
        "feed_forward_proj": "relu",
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }


def vit(layers: int = 2, hidden: int = 48, labels: int = 5, seed: int = 0) -> tuple[Tensors, Config]:
    """ViTForImageClassification on 16 × 16 images of three channels."""
    at = "vit.embeddings."
    shapes: Shapes = {f"{at}cls_token": (1, 1, hidden), f"{at}position_embeddings": (1, 17, hidden)}
    shapes |= {
        f"{at}patch_embeddings.projection.weight": (hidden, 3, 4, 4),
        f"{at}patch_embeddings.projection.bias": (hidden,),
    }
    for layer in range(layers):
        at = f"vit.encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            shapes |= _dense(f"{at}attention.attention.{part}", hidden, hidden)
        shapes |= _dense(f"{at}attention.output.dense", hidden, hidden)
        shapes |= _dense(f"{at}intermediate.dense", 4 * hidden, hidden) | _dense(
            f"{at}output.dense", hidden, 4 * hidden
        )
        shapes |= _normed(f"{at}layernorm_before", hidden) | _normed(f"{at}layernorm_after", hidden)
    shapes |= _normed("vit.layernorm", hidden) | _dense("classifier", labels, hidden)
    return _filled(shapes, seed), {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 4 * hidden,
        "image_size": 16,
        "patch_size": 4,
        "num_channels": 3,
        "id2label": {str(label): f"label {label}" for label in range(labels)},
        "label2id": {f"label {label}": label for label in range(labels)},
    }


def mixed(seed: int = 0) -> tuple[Tensors, Config]:
    """No known family: every dtype that torch and safetensors share, 0-d and empty tensors, odd sizes, odd names."""
    numbers = normal((5, 7), "mixed", seed)
    tensors: Tensors = {
        "a.f64": normal((3, 5), "a.f64", seed).double(),
        "a.f32": normal((129, 3), "a.f32", seed),
        "a.f16": normal((11, 13), "a.f16", seed).half(),
        "a.bf16": normal((2, 3, 5, 7), "a.bf16", seed).bfloat16(),
        "a.f8_e4m3": numbers.to(torch.float8_e4m3fn),
        "a.f8_e5m2": numbers.to(torch.float8_e5m2),
        "a.scalar": normal((), "a.scalar", seed),
        "a.empty": torch.zeros(0, 4),
        "a.large": normal((70_001,), "a.large", seed),
        "counts.i64": torch.arange(6).reshape(2, 3) + seed,
        "counts.i32": torch.arange(5, dtype=torch.int32) - 2,
        "counts.i16": torch.arange(5, dtype=torch.int16) - 2,
        "counts.i8": torch.arange(5, dtype=torch.int8) - 2,
        "counts.u8": torch.arange(5, dtype=torch.uint8),
        "counts.scalar": torch.tensor(7 + seed),
        "counts.empty": torch.zeros(0, dtype=torch.int32),
        "mask": torch.arange(9).reshape(3, 3) % 2 == 0,
        "phase.c64": torch.complex(numbers, -numbers),
        "naïve/名前 with spaces": normal((4,), "unicode", seed),
    }
    return tensors, {"model_type": "unknown_to_anyone", "nested": {"kept": True}}
