"""Tiny models in memory, changed in the ways in which real checkpoints differ, and what planning says about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from merging.checkpoint.tensors import MemoryCheckpoint
from merging.errors import MergingError, Problems
from merging.planning.build import plan
from merging.planning.plan import Job, Plan
from tests import tiny

Models = dict[str, MemoryCheckpoint]

TIES = """
merge_method: ties
base_model: base
models: [{model: a}, {model: b}]
parameters: {weight: 0.5, density: 0.4}
"""
LINEAR = """
merge_method: linear
models: [{model: base}, {model: a}]
parameters: {weight: 0.5}
"""


def models(kind: str = "llama", **sizes: Any) -> Models:
    """A base model and two fine-tunes; made once, as nothing changes them."""
    return dict(_models(kind, **sizes))


@cache
def _models(kind: str, **sizes: Any) -> Models:
    tensors, config = tiny.KINDS[kind](**sizes)
    tuned = {key: tiny.fine_tuned(tensors, seed) for seed, key in enumerate(("a", "b"), start=1)}
    return {key: MemoryCheckpoint(each, config, key) for key, each in {"base": tensors, **tuned}.items()}


def changed(
    model: MemoryCheckpoint,
    tensors: Callable[[dict[str, Tensor]], Mapping[str, Tensor]] = dict,
    **config: Any,
) -> MemoryCheckpoint:
    """The model with other tensors, or other entries of its config; an entry None is left out."""
    held = {name: model.read(name).reshape(spec.shape) for name, spec in model.specs.items()}
    settings = {key: value for key, value in {**model.config, **config}.items() if value is not None}
    return MemoryCheckpoint(tensors(held), settings, model.location)


def without(model: MemoryCheckpoint, *names: str) -> MemoryCheckpoint:
    """The model without some tensors."""
    return changed(model, lambda held: {name: x for name, x in held.items() if name not in names})


def having(model: MemoryCheckpoint, **shapes: tuple[int, ...]) -> MemoryCheckpoint:
    """The model with further float32 tensors; "__" stands for a dot in a name."""
    return changed(model, lambda held: held | {name.replace("__", "."): torch.ones(shapes[name]) for name in shapes})


def problems(recipe: str, checkpoints: Models, **wishes: Any) -> list[MergingError]:
    """Everything planning refuses."""
    try:
        plan(recipe, checkpoints=checkpoints, **wishes)
    except Problems as several:
        return list(several.problems)
    except MergingError as problem:
        return [problem]
    return []


def problem(recipe: str, checkpoints: Models, **wishes: Any) -> str:
    """The one problem there is, as it is shown."""
    found = problems(recipe, checkpoints, **wishes)
    assert len(found) == 1, found
    return str(found[0])


def jobs(made: Plan) -> dict[str, Job]:
    """Jobs by output tensor."""
    return {job.spec.name: job for job in made.jobs}
