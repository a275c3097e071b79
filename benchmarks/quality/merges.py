"""One merge through the public interface: its weights, its seconds, the memory it took."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from torch import Tensor

import merging
from benchmarks.measure import begin_peak, peak_beyond
from benchmarks.quality.statistics import STATISTICS

BASE = "base"


@dataclass(frozen=True)
class Inputs:
    """The models that a method is given, by name and in order, its base model, and the statistics beside each model."""

    models: tuple[str, ...]
    base: str | None
    companions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Merged:
    """A merge: `seconds` of planning and merging, models and output in memory; `peak_bytes` beyond the models."""

    tensors: Mapping[str, Tensor]
    seconds: float
    peak_bytes: int | None
    non_finite: int

    @property
    def digest(self) -> str:
        """Equal for equal weights."""
        found = xxhash.xxh3_128()
        for name, x in sorted(self.tensors.items()):
            found.update(name.encode())
            found.update(x.contiguous().numpy())
        return found.hexdigest()


def inputs_of(method: Any, tasks: Sequence[str]) -> Inputs | str:
    """What a method is given to merge the fine-tunes of all tasks, or why it cannot merge them."""
    needs = method.needs
    least, most = needs.inputs
    is_operand = needs.sees == "models" and needs.base == "required"
    models = (BASE, *tasks) if is_operand else tuple(tasks)
    if unknown := [name for name in needs.companions if name not in STATISTICS]:
        return f"needs {', '.join(unknown)} of every model"
    if most is not None and len(models) > most:
        noun = "model" if most == 1 else "models"
        return f"takes {most} {noun}" + (", one of them the base model" if is_operand and most > 1 else "")
    if len(models) < least:
        return f"takes at least {least} models"
    return Inputs(models, None if needs.base == "unused" else BASE, needs.companions)


def sources(method: Any) -> list[Path]:
    """The files that make a method what it is: its own, those it hands over to, and the mathematics they use."""
    methods = merging.all_methods()
    waiting = [method.function.__module__, *(methods[name].function.__module__ for _, _, name in method.needs.instead)]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            uses = {str(getattr(each, "__module__", "")) for each in vars(sys.modules[name]).values()}
            waiting += [other for other in uses if other.startswith("merging.algebra.")]
    return sorted(Path(str(sys.modules[name].__file__)) for name in found)


def recipe(
    method: str, inputs: Inputs, settings: Mapping[str, Any], statistics: Mapping[str, Mapping[str, Path]] | None = None
) -> str:
    """The recipe as text; `statistics` are files by name and model."""
    asked: dict[str, Any] = {"merge_method": method, "models": [{"model": name} for name in inputs.models]}
    for name, files in (statistics or {}).items():
        for entry in asked["models"]:
            entry.setdefault("companions", {})[name] = str(files[entry["model"]])
    if inputs.base is not None:
        asked["base_model"] = inputs.base
    if settings:
        asked["parameters"] = dict(settings)
    # JSON is YAML.
    return json.dumps(asked, indent=1)


def merge(text: str, checkpoints: Mapping[str, merging.Checkpoint]) -> Merged:
    """Carry a recipe out in memory.

    Raises merging.MergingError where it is refused.
    """
    resident = begin_peak()
    began = time.perf_counter()
    sink = merging.MemorySink(job.spec for job in merging.plan(text, checkpoints=checkpoints).jobs)
    result = merging.merge(text, sink, checkpoints=checkpoints)
    seconds = time.perf_counter() - began
    return Merged(sink.tensors(), seconds, peak_beyond(resident), result.non_finite)
