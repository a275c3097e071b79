"""Combine fine-tuned neural networks by arithmetic on their weights: streamed, exact, reproducible.

>>> import merging
>>> merging.merge("recipe.yaml", "merged/")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from merging.checkpoint.sink import MemorySink as MemorySink
    from merging.checkpoint.tensors import Checkpoint as Checkpoint
    from merging.checkpoint.tensors import MemoryCheckpoint as MemoryCheckpoint
    from merging.checkpoint.tensors import TensorSpec as TensorSpec
    from merging.engine.merge import merge as merge
    from merging.engine.run import run as run
    from merging.engine.verify import verify as verify
    from merging.errors import MergingError as MergingError
    from merging.methods.apply import merge_tensor as merge_tensor
    from merging.methods.declare import all_methods as all_methods
    from merging.methods.declare import merge_method as merge_method
    from merging.planning.build import plan as plan
    from merging.planning.check import check as check
    from merging.planning.explain import explain as explain
    from merging.planning.plan import Plan as Plan
    from merging.recipe.recipe import Recipe as Recipe
    from merging.recipe.source import open_source as open_source
    from merging.recipe.text import read_recipe as read_recipe

_HOMES = {
    "Checkpoint": "checkpoint.tensors",
    "MemoryCheckpoint": "checkpoint.tensors",
    "MemorySink": "checkpoint.sink",
    "MergingError": "errors",
    "Plan": "planning.plan",
    "Recipe": "recipe.recipe",
    "TensorSpec": "checkpoint.tensors",
    "all_methods": "methods.declare",
    "check": "planning.check",
    "explain": "planning.explain",
    "merge": "engine.merge",
    "merge_method": "methods.declare",
    "merge_tensor": "methods.apply",
    "open_source": "recipe.source",
    "plan": "planning.build",
    "read_recipe": "recipe.text",
    "run": "engine.run",
    "verify": "engine.verify",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    # Importing everything takes torch along; a name is fetched when it is used.
    if name not in _HOMES:
        raise AttributeError(f"module 'merging' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"merging.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
