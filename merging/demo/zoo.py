"""The bundled models and their test sets: a base, its fine-tunes, adapters, twins from other seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Literal

from merging.checkpoint.shards import open_checkpoint
from merging.errors import CheckpointError
from merging.lazy import Float, Int, Tensor

TASKS_FILE = "tasks.json"


@dataclass(frozen=True)
class Digits:
    """Grey images with entries in [0, 1], and what they show."""

    images: Float[Tensor, "images 8 8"]
    labels: Int[Tensor, " images"]


@dataclass(frozen=True)
class Zoo:
    """A folder of small real models; `find_zoo` knows where it is."""

    folder: Path

    @cached_property
    def tasks(self) -> Mapping[str, str]:
        """Every task with its description; the fine-tune of a task has its name."""
        tasks: dict[str, str] = json.loads((self.folder / TASKS_FILE).read_text())
        return tasks

    @property
    def base(self) -> Path:
        """The model that the others were fine-tuned from."""
        return self.folder / "base"

    @property
    def fine_tunes(self) -> Mapping[str, Path]:
        """The fine-tuned model of each task."""
        return {task: self.folder / task for task in self.tasks}

    @property
    def adapters(self) -> Mapping[str, Path]:
        """LoRA adapters of the base model, by task; not every task has one."""
        return _folders(self.folder / "adapters")

    @property
    def twins(self) -> Mapping[str, Path]:
        """Models of one shape trained from different seeds, on the upright digits alone."""
        return _folders(self.folder / "twins")

    def digits(self, part: Literal["validation", "test"]) -> Mapping[str, Digits]:
        """Held-out digits as each task shows them, in the order of `tasks`; the upright ones, "plain", come first."""
        stored = open_checkpoint(self.folder / "images" / f"{part}.safetensors")
        labels = stored.read("labels").long()
        return {
            task: Digits(stored.read(task).reshape(-1, 8, 8).float() / 255, labels) for task in ("plain", *self.tasks)
        }


def _folders(parent: Path) -> Mapping[str, Path]:
    return {each.name: each for each in sorted(parent.iterdir()) if each.is_dir()}


def find_zoo() -> Zoo:
    """The zoo of the repository this package is run from, or the one inside the installed package.

    Raises CheckpointError when it is in neither.
    """
    package = Path(str(files("merging")))
    for folder in (package.parent / "data" / "zoo", package / "_zoo"):
        if (folder / TASKS_FILE).is_file():
            return Zoo(folder)
    raise CheckpointError(
        "the bundled models are missing",
        where=str(package / "_zoo"),
        fix="install the package again, or run data/zoo/build.py in a clone of the repository",
    )
