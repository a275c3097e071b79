"""The forward pass of a small vision transformer; tensors are named as ViTForImageClassification names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from merging.checkpoint.tensors import Checkpoint
from merging.lazy import Float, Tensor, torch


def weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Every tensor of a checkpoint in float32, in its own shape."""
    return {name: checkpoint.read(name).float().reshape(spec.shape) for name, spec in checkpoint.specs.items()}


def classify(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], images: Float[Tensor, "images height width"]
) -> Float[Tensor, "images labels"]:
    """Logits of grey images with entries in [0, 1]; the first layer norm of a layer precedes attention (pre-norm).

    Only the class token is read out, so that the last layer computes no other.
    """
    x = _embed(tensors, config, images)
    layers = config["num_hidden_layers"]
    for layer in range(layers):
        x = _layer(tensors, config, f"vit.encoder.layer.{layer}.", x, queries=1 if layer == layers - 1 else None)
    x = _norm(tensors, config, "vit.layernorm", x[:, 0])
    return _linear(tensors, "classifier", x)


def _embed(tensors: Mapping[str, Tensor], config: Mapping[str, Any], images: Tensor) -> Tensor:
    name = "vit.embeddings.patch_embeddings.projection"
    size = config["patch_size"]
    patches = torch.nn.functional.conv2d(
        images[:, None], tensors[f"{name}.weight"], tensors[f"{name}.bias"], stride=(size, size)
    )
    class_token = tensors["vit.embeddings.cls_token"].expand(len(images), -1, -1)
    x = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1)
    return x + tensors["vit.embeddings.position_embeddings"]


def _layer(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], prefix: str, x: Tensor, queries: int | None
) -> Tensor:
    """One layer's output for the first `queries` tokens, or for all."""
    normed = _norm(tensors, config, prefix + "layernorm_before", x)
    query, key, value = (
        _linear(tensors, f"{prefix}attention.attention.{role}", tokens)
        .view(len(x), -1, config["num_attention_heads"], x.shape[-1] // config["num_attention_heads"])
        .transpose(1, 2)
        for role, tokens in (("query", normed[:, :queries]), ("key", normed), ("value", normed))
    )
    mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    x = x[:, :queries] + _linear(tensors, prefix + "attention.output.dense", mixed)
    hidden = _linear(tensors, prefix + "intermediate.dense", _norm(tensors, config, prefix + "layernorm_after", x))
    return x + _linear(tensors, prefix + "output.dense", torch.nn.functional.gelu(hidden))


def _norm(tensors: Mapping[str, Tensor], config: Mapping[str, Any], name: str, x: Tensor) -> Tensor:
    return torch.nn.functional.layer_norm(
        x, (x.shape[-1],), tensors[f"{name}.weight"], tensors[f"{name}.bias"], config["layer_norm_eps"]
    )


def _linear(tensors: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return torch.nn.functional.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def initial(config: Mapping[str, Any], seed: int) -> dict[str, Tensor]:
    """All tensors of a transformer before training, in float32; patches and labels as the config has them."""
    patch = config["patch_size"]
    random, width = torch.Generator().manual_seed(seed), config["hidden_size"]

    def noise(*shape: int) -> Tensor:
        return torch.nn.init.trunc_normal_(torch.empty(shape), std=0.05, generator=random)

    tensors = {
        "vit.embeddings.cls_token": noise(1, 1, width),
        "vit.embeddings.position_embeddings": noise(1, (config["image_size"] // patch) ** 2 + 1, width),
        # A patch has four entries: larger weights let it be heard beside its position.
        "vit.embeddings.patch_embeddings.projection.weight": 4 * noise(width, config["num_channels"], patch, patch),
        "vit.embeddings.patch_embeddings.projection.bias": torch.zeros(width),
    }
    linear: dict[str, tuple[int, int]] = {"classifier": (len(config["id2label"]), width)}
    norms = ["vit.layernorm"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"vit.encoder.layer.{layer}."
        linear |= {f"{prefix}attention.attention.{role}": (width, width) for role in ("query", "key", "value")}
        linear[f"{prefix}attention.output.dense"] = (width, width)
        linear[f"{prefix}intermediate.dense"] = (config["intermediate_size"], width)
        linear[f"{prefix}output.dense"] = (width, config["intermediate_size"])
        norms += [f"{prefix}layernorm_before", f"{prefix}layernorm_after"]
    for name, shape in linear.items():
        tensors |= {f"{name}.weight": noise(*shape), f"{name}.bias": torch.zeros(shape[0])}
    for name in norms:
        tensors |= {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
    return tensors
