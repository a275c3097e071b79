"""A Llama-shaped bf16 family of any size: a base model and fine-tunes with structured task vectors, made in seconds.

    python -m benchmarks.generate FOLDER --size 1.1B --models 3

Entries come from one pool of normal numbers read at an offset of its own per tensor and model: as irregular to a merge
as fresh numbers, and cheaper by far. A task vector is low-rank plus sparse plus diffuse, 3 % of its tensor in length.
Files are written block by block with a header of their own, so memory stays small and no code under test is involved.
A model whose settings.json is equal is used as it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import torch
from torch import Tensor

POOL_ENTRIES = 1 << 24
SHARD_BYTES = 1_000_000_000
BLOCK_ENTRIES = 1 << 22
CHANGE = 0.03


@dataclass(frozen=True)
class Size:
    """The numbers of a Llama configuration that decide its size."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    groups: int
    vocabulary: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's name and shape, in the order of the files."""
        hidden, wide = self.hidden, self.intermediate
        narrow = hidden // self.heads * self.groups
        layer: dict[str, tuple[int, ...]] = {
            "input_layernorm": (hidden,),
            "mlp.down_proj": (hidden, wide),
            "mlp.gate_proj": (wide, hidden),
            "mlp.up_proj": (wide, hidden),
            "post_attention_layernorm": (hidden,),
            "self_attn.k_proj": (narrow, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.v_proj": (narrow, hidden),
        }
        shapes = {f"model.layers.{i}.{part}.weight": shape for i in range(self.layers) for part, shape in layer.items()}
        ends = {"lm_head.weight": (self.vocabulary, hidden), "model.embed_tokens.weight": (self.vocabulary, hidden)}
        return ends | shapes | {"model.norm.weight": (hidden,)}

    @property
    def nbytes(self) -> int:
        """Bytes of one model in bf16."""
        return 2 * sum(prod(shape) for shape in self.shapes().values())

    def config(self) -> dict[str, object]:
        """The content of config.json."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.groups,
            "vocab_size": self.vocabulary,
            "torch_dtype": "bfloat16",
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
        }


SIZES = {
    "0.01B": Size(layers=4, hidden=384, intermediate=1024, heads=6, groups=6, vocabulary=4_000),
    "0.1B": Size(layers=12, hidden=768, intermediate=2048, heads=12, groups=12, vocabulary=16_000),
    "0.3B": Size(layers=20, hidden=1024, intermediate=2816, heads=16, groups=16, vocabulary=32_000),
    "1.1B": Size(layers=22, hidden=2048, intermediate=5632, heads=32, groups=4, vocabulary=32_000),
    "3B": Size(layers=28, hidden=3072, intermediate=8192, heads=24, groups=8, vocabulary=32_000),
    # One tensor of 512 MiB that dwarfs all others.
    "tall": Size(layers=1, hidden=1024, intermediate=1024, heads=16, groups=16, vocabulary=262_144),
}


def model_folders(folder: Path, size: str, models: int) -> list[Path]:
    """Where the base model and its fine-tunes are, or will be."""
    return [folder / size / "base"] + [folder / size / f"tuned-{model}" for model in range(1, models + 1)]


def generate(folder: Path, size: str, models: int) -> list[Path]:
    """Make what is missing of a family; base model first."""
    pool = None
    places = model_folders(folder, size, models)
    for model, place in enumerate(places):
        settings = {"model": model, "change": CHANGE, "pool": POOL_ENTRIES, **asdict(SIZES[size])}
        marker = place / "settings.json"
        if marker.exists() and json.loads(marker.read_text()) == settings:
            continue
        pool = _pool() if pool is None else pool
        place.mkdir(parents=True, exist_ok=True)
        _write_model(place, SIZES[size], model, pool)
        (place / "config.json").write_text(json.dumps(SIZES[size].config(), indent=2))
        (place / "tokenizer_config.json").write_text("{}")
        marker.write_text(json.dumps(settings))
    return places


def _pool() -> Tensor:
    """Normal numbers in float32; a reader's slice may run past the end, hence the repeated beginning."""
    numbers = torch.randn(POOL_ENTRIES, generator=torch.Generator().manual_seed(0))
    return torch.cat([numbers, numbers[:BLOCK_ENTRIES]])


def _write_model(place: Path, size: Size, model: int, pool: Tensor) -> None:
    shards = list(_shards(size))
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        weight_map |= dict.fromkeys(names, file)
        shapes = {name: size.shapes()[name] for name in names}
        with (place / file).open("wb") as out:
            out.write(_header(shapes))
            for name, shape in shapes.items():
                _write_tensor(out, name, shape, model, pool)
    if len(shards) > 1:
        index = {"metadata": {"total_size": size.nbytes}, "weight_map": weight_map}
        (place / "model.safetensors.index.json").write_text(json.dumps(index))


def _shards(size: Size) -> Iterator[list[str]]:
    names: list[str] = []
    filled = 0
    for name, shape in size.shapes().items():
        if names and filled + 2 * prod(shape) > SHARD_BYTES:
            yield names
            names, filled = [], 0
        names.append(name)
        filled += 2 * prod(shape)
    yield names


def _header(shapes: dict[str, tuple[int, ...]]) -> bytes:
    described: dict[str, object] = {"__metadata__": {"format": "pt"}}
    first = 0
    for name, shape in shapes.items():
        stop = first + 2 * prod(shape)
        described[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [first, stop]}
        first = stop
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_tensor(out: BinaryIO, name: str, shape: tuple[int, ...], model: int, pool: Tensor) -> None:
    """The base model's entries, plus for a fine-tune its task vector, in blocks of whole rows."""
    rows, columns = shape[0], prod(shape[1:])
    scale, centre = (0.02, 0.0) if len(shape) > 1 else (0.1, 1.0)
    right = _numbers(pool, f"{name}/{model}/right", 2 * columns).reshape(2, columns)
    step = max(1, BLOCK_ENTRIES // columns)
    for first in range(0, rows, step):
        count = min(step, rows - first)
        at = f"{name}/{first}"
        block = _numbers(pool, at, count * columns).reshape(count, columns) * scale + centre
        if model:
            left = _numbers(pool, f"{at}/{model}/left", 2 * count).reshape(count, 2)
            block.addmm_(left, right, alpha=0.5 * CHANGE * scale)
            diffuse = _numbers(pool, f"{at}/{model}/diffuse", count * columns).reshape(count, columns)
            block.add_(diffuse, alpha=0.3 * CHANGE * scale)
            sparse = _numbers(pool, f"{at}/{model}/sparse", count * columns).reshape(count, columns)
            block.add_(torch.nn.functional.hardshrink(sparse, 1.65), alpha=0.8 * CHANGE * scale)
        out.write(block.bfloat16().view(torch.uint8).numpy().data)


def _numbers(pool: Tensor, address: str, count: int) -> Tensor:
    first = crc32(address.encode()) % POOL_ENTRIES
    return pool[first : first + count]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="1.1B")
    parser.add_argument("--models", type=int, default=3)
    options = parser.parse_args()
    for place in generate(options.folder, options.size, options.models):
        print(place)


if __name__ == "__main__":
    main()
