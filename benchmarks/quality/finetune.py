"""Fine-tuning of the encoder, one task at a time; a finished fine-tune is a folder with a settings file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.quality.encoder import Encoder, embed, put, read, save, trained
from benchmarks.quality.texts import Split, Texts, digest

# The file that marks a finished fine-tune.
MARK = "settings.json"
# Batches are cut from pools of so many, sorted by length: less padding, and still another order in every epoch.
POOL_BATCHES = 8


@dataclass(frozen=True)
class Training:
    """How every task is fine-tuned.

    The rate falls to zero on a line. `scale` multiplies the cosine similarities; `steps` ends training early.
    """

    rate: float = 1e-4
    decay: str = "linear"
    epochs: int = 3
    batch: int = 32
    scale: float = 20.0
    seed: int = 0
    steps: int | None = None


def fine_tune_all(
    texts: Texts, heads: Mapping[str, Tensor], folder: Path, training: Training, encoder: Encoder
) -> dict[str, Path]:
    """The folder of every task's fine-tune, made where it is not there yet, and of the base model as "base"."""
    names = trained(encoder)
    base = folder / "base"
    if not (base / "model.safetensors").exists():
        save(encoder, base, texts.base)
    places = {"base": base}
    for name, head in heads.items():
        places[name] = folder / name
        wanted = settings(texts, name, training)
        if not is_finished(places[name], wanted):
            put(encoder, read(base, names))
            began = time.perf_counter()
            facts = fine_tune(encoder, head, texts.split(name, "train"), training)
            save(encoder, places[name], texts.base)
            facts["seconds"] = round(time.perf_counter() - began, 1)
            (places[name] / MARK).write_text(json.dumps({"settings": wanted, **facts}, indent=1) + "\n")
            print(f"fine-tuned {name:10} " + "  ".join(f"{key} {value:g}" for key, value in facts.items()), flush=True)
    return places


def settings(texts: Texts, task: str, training: Training) -> dict[str, Any]:
    """Everything that a fine-tune depends on, as JSON data."""
    return {
        "task": task,
        "training": asdict(training),
        "examples": texts.digest(task, "train"),
        "base": digest(texts.base / "model.safetensors"),
    }


def is_finished(folder: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether a folder holds the fine-tune with just these settings."""
    mark = folder / MARK
    return mark.exists() and json.loads(mark.read_text())["settings"] == wanted


def fine_tune(encoder: Encoder, head: Tensor, split: Split, training: Training) -> dict[str, float]:
    """Train the encoder in place against a frozen head; what there is to say about it."""
    entries = [each for each in encoder.parameters() if each.requires_grad]
    before = [each.detach().clone() for each in entries]
    optimizer = torch.optim.AdamW(entries, lr=training.rate)
    total = training.epochs * -(-len(split) // training.batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total)
    encoder.train()
    steps, loss = 0, torch.zeros(())
    # Dropout draws from the global generator: seeded here, and put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        for ids, lengths, labels in _batches(split, training):
            cosines = embed(encoder, ids, lengths) @ head.T
            loss = torch.nn.functional.cross_entropy(training.scale * cosines, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            steps += 1
    encoder.eval()
    moved = [now.detach() - then for now, then in zip(entries, before, strict=True)]
    squares = sum(float(each.double().square().sum()) for each in moved)
    return {"steps": steps, "last_loss": round(float(loss.detach()), 4), "norm": round(squares**0.5, 3)}


def _batches(split: Split, training: Training) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Padded ids, lengths and labels of every step."""
    order = torch.Generator().manual_seed(training.seed)
    taken = 0
    for _ in range(training.epochs):
        batches = [
            batch
            for pool in torch.randperm(len(split), generator=order).split(POOL_BATCHES * training.batch)
            for batch in pool[split.lengths[pool].argsort(stable=True)].split(training.batch)
        ]
        for k in torch.randperm(len(batches), generator=order).tolist():
            if taken == training.steps:
                return
            taken += 1
            rows = [split.rows[i] for i in batches[k].tolist()]
            yield pad_sequence(rows, batch_first=True), split.lengths[batches[k]], split.labels[batches[k]]
