"""Small stores for tests: a base, fine-tunes, a recipe, and what `compress` makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from merging.checkpoint.tensors import Checkpoint
from merging.engine.compress import Compressed, compress
from merging.engine.merge import merge
from merging.recipe.source import open_source
from tests import tiny


@dataclass(frozen=True)
class Kept:
    """A store, and the recipe it was made from."""

    recipe: str
    result: Compressed
    folder: Path

    def merged(self, task: int) -> Checkpoint:
        """What a merge by the same recipe makes of one task."""
        out = self.folder.with_name(f"{self.folder.name}-merged-{task}")
        if not out.exists():
            merge(f"{self.recipe}parameters: {{task: {task}}}\n", out)
        return open_source(str(out))

    def restored(self, task: int | str) -> Checkpoint:
        """The task's model, read from the store."""
        return open_source(f"store:{self.folder}#{task}")

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change what store.json says."""
        path = self.folder / "store.json"
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))


def recipe_of(family: tiny.Family, method: str, dtype: str | None = None, **more: str) -> str:
    """A recipe of all fine-tunes of a family."""
    lines = [f"merge_method: {method}", f"base_model: {family.base}", "models:"]
    lines += [f"- model: {place}" for place in family.tuned]
    lines += [f"dtype: {dtype}"] if dtype else []
    return "\n".join([*lines, *(f"{key}: {value}" for key, value in more.items())]) + "\n"


def kept_of(folder: Path, method: str = "emr", dtype: str | None = None, kind: str = "mixed", **sizes: Any) -> Kept:
    """A store in `folder`/store of a family written beside it."""
    family = tiny.family(folder, kind, **sizes)
    recipe = recipe_of(family, method, dtype)
    return Kept(recipe, compress(recipe, folder / "store"), folder / "store")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a finished store; of the ledger, whose norms are sums over blocks, the digests."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    rows = [json.loads(line) for line in files["merging-ledger.jsonl"].splitlines()]
    files["merging-ledger.jsonl"] = str([(row["digest"], row.get("mask_digests")) for row in rows]).encode()
    return files


def bits(x: torch.Tensor) -> torch.Tensor:
    """The bytes of entries, so that zeros of different signs differ."""
    return x.contiguous().view(-1).view(torch.uint8)
