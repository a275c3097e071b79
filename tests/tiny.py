"""Seeded tiny checkpoints, one function per family, with the names and configs that transformers loads and runs.

    tensors, config = tiny.llama(layers=2, hidden=64)         # in memory, float32
    tuned = tiny.fine_tuned(tensors, seed=1)                  # same names, plus a structured task vector
    family = tiny.family(folder, "gpt2", models=3, dtype=torch.bfloat16, shards=2)
    family.base, family.tuned                                 # folders, written by safetensors itself, not by our sink

An entry depends on the seed, the tensor's name and its shape alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.tiny_shapes import Config, Tensors, bert, gpt2, llama, mixed, normal, t5, vit

# Rms of a task vector relative to the rms of its tensor; fine-tunes of real models lie near it.
CHANGE = 0.03


@dataclass(frozen=True)
class Family:
    """A base model and its fine-tunes, as folders."""

    base: Path
    tuned: tuple[Path, ...]


def family(
    folder: Path,
    kind: str = "llama",
    models: int = 3,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    shards: int = 1,
    change: float = CHANGE,
    **sizes: Any,
) -> Family:
    """Write a base model and `models` fine-tunes of it under `folder`, as base/, tuned-1/, tuned-2/, …

    `dtype` None keeps every tensor's own, which is float32 in all kinds but "mixed".
    """
    tensors, config = KINDS[kind](seed=seed, **sizes)
    config["dtype"] = str(dtype or torch.float32).removeprefix("torch.")
    contents = [tensors] + [fine_tuned(tensors, seed * 1000 + 1 + model, change) for model in range(models)]
    places = [folder / "base"] + [folder / f"tuned-{model + 1}" for model in range(models)]
    for place, content in zip(places, contents, strict=True):
        write(place, cast(content, dtype) if dtype else content, config, shards=shards)
    return Family(places[0], tuple(places[1:]))


def write(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], *, shards: int = 1) -> Path:
    """A checkpoint folder as transformers writes one: config, tokenizer files, one file or `shards` of them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name, text in SIDECARS.items():
        (folder / name).write_text(text)
    stored = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if shards == 1:
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    names = list(stored)
    files: dict[str, list[str]] = {}
    for position, name in enumerate(names):
        files.setdefault(f"model-{position * shards // len(names) + 1:05}-of-{shards:05}.safetensors", []).append(name)
    for file, inside in files.items():
        save_file({name: stored[name] for name in inside}, folder / file, metadata={"format": "pt"})
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in stored.values())},
        "weight_map": {name: file for file, inside in files.items() for name in inside},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return folder


def cast(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Tensors:
    """Float tensors in another dtype; all others as they are."""
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def fine_tuned(tensors: Mapping[str, Tensor], seed: int, change: float = CHANGE) -> Tensors:
    """The same model after fine-tuning: each float tensor plus a low-rank, a sparse and a diffuse part."""
    return {
        name: (tensor.double() + change * _rms(tensor) * _task_vector(name, tensor, seed)).to(tensor.dtype)
        if tensor.is_floating_point() and tensor.numel()
        else tensor.clone()
        for name, tensor in tensors.items()
    }


def _rms(tensor: Tensor) -> float:
    return float(tensor.double().square().mean().sqrt()) or 1.0


def _task_vector(name: str, tensor: Tensor, seed: int) -> Tensor:
    """Entries of rms about 1: no two of equal magnitude, a tenth of them much larger."""
    rows = tensor.shape[0] if tensor.dim() else 1
    columns = tensor.numel() // rows
    left = normal((rows, 2), f"{name}/left", seed)
    right = normal((2, columns), f"{name}/right", seed)
    sparse = normal((rows, columns), f"{name}/sparse", seed)
    sparse = torch.where(sparse.abs() > 1.65, sparse, torch.zeros(()))
    noise = normal((rows, columns), f"{name}/noise", seed)
    return (0.5 * left @ right + 0.8 * sparse + 0.3 * noise).reshape(tensor.shape)


KINDS: Mapping[str, Callable[..., tuple[Tensors, Config]]] = {
    "llama": llama,
    "gpt2": gpt2,
    "bert": bert,
    "t5": t5,
    "vit": vit,
    "mixed": mixed,
}

SIDECARS: Mapping[str, str] = {
    "tokenizer.json": json.dumps(
        {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"}}
    ),
    "tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}),
    "special_tokens_map.json": json.dumps({"unk_token": "<unk>"}),
    "generation_config.json": json.dumps({"bos_token_id": 1, "eos_token_id": 2}),
    "chat_template.jinja": "{% for message in messages %}{{ message.content }}{% endfor %}\n",
}
