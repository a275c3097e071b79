"""The tasks' texts: read, tokenised once, kept as flat arrays beside the models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Part: TypeAlias = Literal["train", "val", "test"]
# What a tokenizer is made of; beside a model's weights they make its folder one that transformers opens.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


@dataclass(frozen=True)
class Task:
    """A task's name and, for every class, the sentence whose embedding is its row of the frozen head."""

    name: str
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Token ids of all examples end to end, how many each has, and the class of each."""

    ids: Tensor
    lengths: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def rows(self) -> tuple[Tensor, ...]:
        """The token ids of every example."""
        return self.ids.long().split(self.lengths.tolist())

    def first(self, count: int | None) -> Split:
        """The first so many examples; all for None. The files' rows lie in the order of hashes of their texts."""
        lengths = self.lengths[:count]
        return Split(self.ids[: int(lengths.sum())], lengths, self.labels[:count])


class Texts:
    """The tasks of a data folder, tokenised by the tokenizer in the base model's folder, at most `longest` tokens."""

    def __init__(self, data: Path, base: Path, cache: Path, *, longest: int = 48, only: Sequence[str] = ()):
        self.data, self.base, self.cache, self.longest = data, base, cache, longest
        told: dict[str, Any] = json.loads((data / "tasks.json").read_text())
        if unknown := [name for name in only if name not in told]:
            raise SystemExit(f"no task is called {unknown[0]!r}; there are {', '.join(told)}")
        self.tasks: Mapping[str, Task] = {
            name: Task(name, tuple(facts["prompts"])) for name, facts in told.items() if name in only or not only
        }

    def split(self, task: str, part: Part) -> Split:
        """One split, from the cache where the same file was tokenised before."""
        file = self.data / task / f"{part}.tsv"
        kept = self.cache / f"{task}-{part}-{self._key(file)}.safetensors"
        if not kept.exists():
            labels, texts = read_rows(file)
            rows = self.encode(texts)
            split = {
                "ids": torch.tensor([token for row in rows for token in row], dtype=torch.int32),
                "lengths": torch.tensor([len(row) for row in rows]),
                "labels": torch.tensor(labels),
            }
            self.cache.mkdir(parents=True, exist_ok=True)
            partial = kept.with_suffix(".partial")
            save_file(split, partial)
            partial.replace(kept)
        return Split(**load_file(kept))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens included, cut at `longest`."""
        rows: list[list[int]] = self._tokenizer(list(texts), truncation=True, max_length=self.longest)["input_ids"]
        return rows

    def digest(self, task: str, part: Part) -> str:
        """Of everything about a split's examples and the task's head, apart from the encoder."""
        prompts = "\n".join(self.tasks[task].prompts)
        return sha256(f"{self._key(self.data / task / f'{part}.tsv')}\n{prompts}".encode()).hexdigest()[:16]

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.base)

    def _key(self, file: Path) -> str:
        words = (self.base / "tokenizer.json").read_bytes()
        return sha256(f"{digest(file)} {sha256(words).hexdigest()} {self.longest}".encode()).hexdigest()[:16]


def read_rows(file: Path) -> tuple[list[int], list[str]]:
    """Labels and texts of a file of lines LABEL<TAB>TEXT."""
    # Texts may hold characters that str.splitlines takes for line ends.
    lines = [line.split("\t", 1) for line in file.read_text(encoding="utf-8").split("\n") if line]
    return [int(label) for label, _ in lines], [text for _, text in lines]


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return sha256(file.read_bytes()).hexdigest()
