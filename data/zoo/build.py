"""Makes everything in data/zoo from scikit-learn's digits: `python data/zoo/build.py [folder]`, a few minutes.

One seed for each model, one thread, deterministic kernels: the same machine and torch release give the same bytes.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor

from merging.checkpoint.layout import lay_out
from merging.checkpoint.sink import ShardSink, write_whole
from merging.checkpoint.tensors import MemoryCheckpoint
from merging.demo.vit import classify, initial

Tensors = dict[str, Tensor]
THREADS = 1  # sums in one order, and no slower where other programs want the cores
SHARD_BYTES = 700_000
TEST, VALIDATION = 400, 200  # digits held out of all training
GLIMPSES = 16  # digits of each task that the base has seen
BATCH = 64
NOISE = 0.08  # of every training image; grey values are in [0, 1]
ADAPTED = ("rotated", "wrapped")
RANK = 8
LORA_SCALING = 16
LINEAR = (".query", ".key", ".value", ".dense")


@dataclass(frozen=True)
class Task:
    """One shift of the digits: what it is, how an upright image is moved, and the noise of its sensor."""

    says: str
    move: Callable[[Tensor], Tensor]
    noise: float = 0.0


def _scrambled(images: Tensor) -> Tensor:
    """The sixteen 2 x 2 patches in another, fixed order."""
    order = torch.randperm(16, generator=_random(3))
    patches = images.reshape(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 2, 2)[:, order]
    return patches.reshape(-1, 4, 4, 2, 2).transpose(2, 3).reshape(-1, 8, 8)


TASKS: Mapping[str, Task] = {
    "rotated": Task("turned by 90 degrees", lambda images: images.rot90(1, (1, 2))),
    "mirrored": Task("left and right exchanged", lambda images: images.flip(2)),
    "upside_down": Task("top and bottom exchanged", lambda images: images.flip(1)),
    "inverted": Task("dark on light, with noise of 0.1", lambda images: 1 - images, noise=0.1),
    "wrapped": Task("rolled by half the image in both directions", lambda images: images.roll((4, 4), (1, 2))),
    "scrambled": Task("the 2 x 2 patches in another, fixed order", _scrambled),
}
PLAIN = Task("as scanned", lambda images: images)

CONFIG: Mapping[str, Any] = {
    "architectures": ["ViTForImageClassification"],
    "dtype": "bfloat16",
    "hidden_act": "gelu",
    "hidden_size": 128,
    "id2label": {str(i): str(i) for i in range(10)},
    "image_size": 8,
    "intermediate_size": 256,
    "label2id": {str(i): i for i in range(10)},
    "layer_norm_eps": 1e-12,
    "model_type": "vit",
    "num_attention_heads": 4,
    "num_channels": 1,
    "num_hidden_layers": 4,
    "patch_size": 2,
}
# Independent networks align better the wider they are: shallow, with a wide hidden layer.
TWIN_CONFIG = {**CONFIG, "num_hidden_layers": 2, "intermediate_size": 512}


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Digits:
    """The digits and who may see them: lists of sample numbers for training, validation and test."""

    def __init__(self) -> None:
        loaded = load_digits()
        self.images = torch.tensor(loaded.images, dtype=torch.float32) / 16
        self.labels = torch.tensor(loaded.target)
        order = torch.randperm(len(self.labels), generator=_random(0))
        self.test, self.validation, self.training = order.split([TEST, VALIDATION, len(order) - TEST - VALIDATION])
        shuffled = self.training[torch.randperm(len(self.training), generator=_random(1))]
        self.glimpsed = dict(zip(TASKS, shuffled.split(GLIMPSES), strict=False))

    def splits(self) -> dict[str, Any]:
        """Who has seen what, by sample number of load_digits()."""
        return {
            "training": sorted(self.training.tolist()),
            "validation": self.validation.tolist(),
            "test": self.test.tolist(),
            "base_has_seen": {name: sorted(seen.tolist()) for name, seen in self.glimpsed.items()},
        }

    def held_out(self, samples: Tensor, seed: int) -> Tensors:
        """Images of every task as bytes, and their labels."""
        stored = {"labels": self.labels[samples].to(torch.uint8)}
        for name, task in {"plain": PLAIN, **TASKS}.items():
            images = task.move(self.images[samples])
            images = images + task.noise * torch.randn(images.shape, generator=_random(seed))
            stored[name] = images.clamp(0, 1).mul(255).round().to(torch.uint8).contiguous()
        return stored

    def batches(self, pools: Sequence[tuple[Task, Tensor, float]], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless training batches; each pool is a task, the samples that may be shown in it, and its share."""
        random = _random(seed)
        shares = torch.tensor([share for _, _, share in pools])
        while True:
            chosen = torch.multinomial(shares, BATCH, replacement=True, generator=random)
            samples = torch.empty(BATCH, dtype=torch.int64)
            for i, (_, pool, _) in enumerate(pools):
                count = int((chosen == i).sum())
                samples[chosen == i] = pool[torch.randint(len(pool), (count,), generator=random)]
            images = _jittered(self.images[samples], random)
            for i, (task, _, _) in enumerate(pools):
                moved = task.move(images[chosen == i])
                moved = moved + task.noise * torch.randn(moved.shape, generator=random)
                images[chosen == i] = moved.clamp(0, 1)
            yield images + NOISE * torch.randn(images.shape, generator=random), self.labels[samples]


def _jittered(images: Tensor, random: torch.Generator) -> Tensor:
    """Each image turned by up to 0.25 rad, scaled by up to 12 %, slanted by up to 0.15, shifted by up to 0.9 pixels."""
    turn, scale, slant, right, down = torch.rand(5, len(images), generator=random) * 2 - 1
    turn, scale = 0.25 * turn, 1 + 0.12 * scale
    rows = (
        torch.stack([turn.cos() * scale, 0.15 * slant - turn.sin() * scale, 0.22 * right], dim=1),
        torch.stack([turn.sin() * scale, turn.cos() * scale, 0.22 * down], dim=1),
    )
    grid = torch.nn.functional.affine_grid(torch.stack(rows, dim=1), [len(images), 1, 8, 8], align_corners=False)
    return torch.nn.functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


def fit(
    trained: Tensors,
    model: Callable[[Tensors], Mapping[str, Tensor]],
    config: Mapping[str, Any],
    batches: Iterable[tuple[Tensor, Tensor]],
    steps: int,
    rate: float,
    decay: float = 0.05,
) -> Tensors:
    """AdamW, warmed up over a tenth of the steps, then half a cosine; `model` makes all tensors of the trained ones."""
    trained = {name: tensor.clone().requires_grad_() for name, tensor in trained.items()}
    groups = [
        {"params": [tensor for tensor in trained.values() if tensor.ndim > 1], "weight_decay": decay},
        {"params": [tensor for tensor in trained.values() if tensor.ndim == 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)
    warm = steps // 10
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda i: min((i + 1) / warm, (1 + math.cos(math.pi * max(0, i - warm) / (steps - warm))) / 2)
    )
    for _, (images, labels) in zip(range(steps), batches, strict=False):
        loss = torch.nn.functional.cross_entropy(classify(model(trained), config, images), labels)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimiser.step()
        schedule.step()
    return {name: tensor.detach().bfloat16() for name, tensor in trained.items()}


def make_base(digits: Digits) -> Tensors:
    """Trained on upright digits and, for the tasks, on a few glimpses of each."""
    glimpses = [(task, digits.glimpsed[name], 0.1) for name, task in TASKS.items()]
    batches = digits.batches([(PLAIN, digits.training, 0.4), *glimpses], seed=1)
    return fit(initial(CONFIG, 1), dict, CONFIG, batches, steps=3000, rate=1e-3, decay=0.2)


def make_twin(digits: Digits, seed: int) -> Tensors:
    """Trained on upright digits from its own start, in its own order."""
    batches = digits.batches([(PLAIN, digits.training, 1.0)], seed)
    return fit(initial(TWIN_CONFIG, seed), dict, TWIN_CONFIG, batches, steps=900, rate=1e-3)


def _linear_layers(base: Tensors) -> list[str]:
    return [name.removesuffix(".weight") for name in base if name.endswith(tuple(f"{end}.weight" for end in LINEAR))]


def make_fine_tune(digits: Digits, base: Tensors, task: Task, seed: int) -> Tensors:
    """The base with its matrices trained on one task; embeddings, norms, biases and classifier stay as they are."""
    frozen = {name: tensor.float() for name, tensor in base.items()}
    start = {f"{layer}.weight": frozen[f"{layer}.weight"] for layer in _linear_layers(base)}
    batches = digits.batches([(task, digits.training, 1.0)], seed)
    return base | fit(start, lambda trained: frozen | trained, CONFIG, batches, steps=400, rate=2e-4)


def make_adapter(digits: Digits, base: Tensors, task: Task, seed: int) -> Tensors:
    """LoRA factors of every linear layer, trained on one task; named as PEFT names them."""
    frozen = {name: tensor.float() for name, tensor in base.items()}
    random, start = _random(seed), {}
    for layer in _linear_layers(base):
        rows, columns = frozen[f"{layer}.weight"].shape
        start[f"{layer}.lora_A"] = torch.randn(RANK, columns, generator=random) / math.sqrt(columns)
        start[f"{layer}.lora_B"] = torch.zeros(rows, RANK)

    def model(factors: Tensors) -> Tensors:
        scale = LORA_SCALING / RANK
        return frozen | {
            f"{layer}.weight": torch.addmm(
                frozen[f"{layer}.weight"], factors[f"{layer}.lora_B"], factors[f"{layer}.lora_A"], alpha=scale
            )
            for layer in _linear_layers(base)
        }

    batches = digits.batches([(task, digits.training, 1.0)], seed)
    factors = fit(start, model, CONFIG, batches, steps=280, rate=2e-3, decay=0.0)
    return {f"base_model.model.{name}.weight": tensor for name, tensor in factors.items()}


def write_model(folder: Path, tensors: Tensors, config: Mapping[str, Any]) -> None:
    """A checkpoint folder as transformers writes it: config, shards, index."""
    specs = MemoryCheckpoint(tensors).specs
    sink = ShardSink(folder, lay_out(specs.values(), SHARD_BYTES, {"format": "pt"}), resume=False)
    for name, tensor in tensors.items():
        sink.write(name, 0, tensor.flatten())
    sink.seal()
    write_json(folder / "config.json", config)


def write_adapter(folder: Path, factors: Tensors) -> None:
    """A LoRA adapter as PEFT writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(factors, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {
        "base_model_name_or_path": "../../base",
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": LORA_SCALING,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": RANK,
        "target_modules": ["query", "key", "value", "dense"],
        "task_type": None,
    }
    write_json(folder / "adapter_config.json", config)


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = 2) -> None:
    """A JSON file that ends with a line feed."""
    write_whole(path, (json.dumps(content, indent=indent) + "\n").encode())


def build(folder: Path) -> None:
    """Train and write everything; prints a line for each."""
    began = time.perf_counter()

    def done(what: str) -> None:
        print(f"{time.perf_counter() - began:4.0f} s  {what}", flush=True)

    digits = Digits()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    save_file(digits.held_out(digits.test, seed=2), folder / "images" / "test.safetensors")
    save_file(digits.held_out(digits.validation, seed=3), folder / "images" / "validation.safetensors")
    write_json(folder / "splits.json", digits.splits(), indent=None)
    write_json(folder / "tasks.json", {name: task.says for name, task in TASKS.items()})
    base = make_base(digits)
    write_model(folder / "base", base, CONFIG)
    done("base")
    for seed, (name, task) in enumerate(TASKS.items(), start=100):
        write_model(folder / name, make_fine_tune(digits, base, task, seed), CONFIG)
        done(name)
    for seed, name in enumerate(ADAPTED, start=200):
        write_adapter(folder / "adapters" / name, make_adapter(digits, base, TASKS[name], seed))
        done(f"adapters/{name}")
    for seed, name in enumerate(("first", "second"), start=300):
        write_model(folder / "twins" / name, make_twin(digits, seed), TWIN_CONFIG)
        done(f"twins/{name}")


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
