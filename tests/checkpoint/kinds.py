"""One checkpoint of every kind, with the tensors that it must yield; for the laws in test_checkpoints.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from merging.checkpoint.adapters import AdaptedCheckpoint, open_adapter
from merging.checkpoint.layout import lay_out
from merging.checkpoint.shards import open_checkpoint
from merging.checkpoint.sink import ShardSink
from merging.checkpoint.tensors import DTYPES, Checkpoint, MemoryCheckpoint, TensorSpec, dtype_name

Tensors = Mapping[str, Tensor]
Kind = Callable[[Path], tuple[Checkpoint, Tensors]]


def random_bits(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Any bit pattern a file may hold, NaN included; booleans are 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    entries = torch.Size(shape).numel()
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=generator, dtype=torch.bool)
    raw = torch.randint(0, 256, (entries * dtype.itemsize,), generator=generator, dtype=torch.uint8)
    return raw.view(dtype).reshape(shape)


def every_dtype() -> dict[str, Tensor]:
    """Every dtype that torch holds, in several shapes; odd sizes leave the following tensors unaligned."""
    tensors: dict[str, Tensor] = {}
    for i, (name, facts) in enumerate(DTYPES.items()):
        if facts.torch_name:
            dtype = getattr(torch, facts.torch_name)
            for j, shape in enumerate([(5, 7), (3,), (), (0, 4)]):
                tensors[f"{name}.{j}"] = random_bits(shape, dtype, 10 * i + j)
    return tensors


def memory(_: Path) -> tuple[Checkpoint, Tensors]:
    """Held in memory."""
    tensors = every_dtype()
    return MemoryCheckpoint(tensors), tensors


def single_file(folder: Path) -> tuple[Checkpoint, Tensors]:
    """One safetensors file."""
    tensors = every_dtype()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return open_checkpoint(folder), tensors


def unaligned_file(folder: Path) -> tuple[Checkpoint, Tensors]:
    """A header of odd length, as other writers leave it."""
    single_file(folder)
    content = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].rstrip()
    header += b" " * (1 - len(header) % 2)
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    return open_checkpoint(folder / "model.safetensors"), every_dtype()


def shards(folder: Path) -> tuple[Checkpoint, Tensors]:
    """Many safetensors files with an index, from our own sink."""
    tensors = every_dtype()
    layout = lay_out([TensorSpec(n, tuple(t.shape), dtype_name(t.dtype)) for n, t in tensors.items()], 200, {})
    sink = ShardSink(folder, layout)
    for name, tensor in tensors.items():
        sink.write(name, 0, tensor.reshape(-1))
    sink.seal()
    return open_checkpoint(folder), tensors


def hub_cache(folder: Path) -> tuple[Checkpoint, Tensors]:
    """A snapshot whose files are links to blobs."""
    tensors = every_dtype()
    blobs, snapshot = folder / "models--a--b" / "blobs", folder / "models--a--b" / "snapshots" / "c0ffee"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    save_file(tensors, blobs / "1234")
    (snapshot / "model.safetensors").symlink_to("../../blobs/1234")
    return open_checkpoint(snapshot), tensors


def pickle(folder: Path) -> tuple[Checkpoint, Tensors]:
    """A .bin file; one tensor is a transposed view."""
    tensors = {**every_dtype(), "transposed": torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(1)).mT}
    torch.save(tensors, folder / "pytorch_model.bin")
    return open_checkpoint(folder, allow_pickle=True), tensors


def adapted(folder: Path) -> tuple[Checkpoint, Tensors]:
    """A base model with an adapter that changes one tensor, replaces one and adds one."""
    generator = torch.Generator().manual_seed(0)
    base = {
        **every_dtype(),
        "q.weight": torch.randn(40, 24, generator=generator).bfloat16(),
        "head.weight": torch.ones(3),
    }
    up, down = torch.randn(40, 4, generator=generator), torch.randn(4, 24, generator=generator)
    head = {"head.weight": torch.zeros(3), "head.extra": torch.ones(2)}
    factors = {"q.lora_A.weight": down, "q.lora_B.weight": up, **head}
    save_file({f"base_model.model.{name}": x for name, x in factors.items()}, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "modules_to_save": ["head"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    checkpoint = AdaptedCheckpoint(MemoryCheckpoint(base), open_adapter(folder))
    return checkpoint, {**base, **head, "q.weight": base["q.weight"].float() + 2 * (up @ down)}


KINDS: tuple[Kind, ...] = (memory, single_file, unaligned_file, shards, hub_cache, pickle, adapted)
