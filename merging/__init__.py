"""Combine fine-tuned neural networks by arithmetic on their weights: streamed, exact, reproducible.

>>> import merging
>>> merging.merge("recipe.yaml", "merged/")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from merging.analysis.block_settings import block_settings as block_settings
    from merging.analysis.block_text import BLOCK_PRESETS as BLOCK_PRESETS
    from merging.analysis.block_text import read_block_weights as read_block_weights
    from merging.analysis.block_writing import write_block_weights as write_block_weights
    from merging.analysis.blocks import BlockWeights as BlockWeights
    from merging.analysis.blocks import Selection as Selection
    from merging.analysis.blocks import part_of as part_of
    from merging.analysis.contents import contents as contents
    from merging.analysis.contents import contrast as contrast
    from merging.analysis.contents import tensor_statistics as tensor_statistics
    from merging.analysis.curves import read_curve as read_curve
    from merging.analysis.diagnose import diagnose as diagnose
    from merging.analysis.diagnose import recall_diagnosis as recall_diagnosis
    from merging.analysis.diagnosis import Diagnosis as Diagnosis
    from merging.analysis.diagnosis import density_curve as density_curve
    from merging.analysis.intruders import intruders as intruders
    from merging.analysis.map import Map as Map
    from merging.analysis.positions import Positions as Positions
    from merging.analysis.spectra import spectra as spectra
    from merging.analysis.summary import summary as summary
    from merging.analysis.table import Table as Table
    from merging.checkpoint.sink import MemorySink as MemorySink
    from merging.checkpoint.tensors import Checkpoint as Checkpoint
    from merging.checkpoint.tensors import MemoryCheckpoint as MemoryCheckpoint
    from merging.checkpoint.tensors import TensorSpec as TensorSpec
    from merging.demo.live import LiveScorer as LiveScorer
    from merging.demo.live import score_recipe as score_recipe
    from merging.demo.zoo import find_zoo as find_zoo
    from merging.engine.compress import compress as compress
    from merging.engine.merge import merge as merge
    from merging.engine.run import run as run
    from merging.engine.verify import verify as verify
    from merging.errors import MergingError as MergingError
    from merging.errors import Problems as Problems
    from merging.hub.client import Hub as Hub
    from merging.hub.names import parse_hub_name as parse_hub_name
    from merging.hub.search import hub_account as hub_account
    from merging.hub.search import search_hub as search_hub
    from merging.jobs.compare import compare_ledgers as compare_ledgers
    from merging.jobs.compare import compare_merges as compare_merges
    from merging.jobs.compare import compare_recipes as compare_recipes
    from merging.jobs.job import Job as Job
    from merging.jobs.jobs import Jobs as Jobs
    from merging.methods.apply import merge_tensor as merge_tensor
    from merging.methods.declare import Method as Method
    from merging.methods.declare import all_methods as all_methods
    from merging.methods.declare import merge_method as merge_method
    from merging.methods.describe import cost as cost
    from merging.planning.build import plan as plan
    from merging.planning.check import check as check
    from merging.planning.explain import explain as explain
    from merging.planning.explain import readable as readable
    from merging.planning.plan import Plan as Plan
    from merging.publish.foresight import foresee as foresee
    from merging.publish.push import push as push
    from merging.recipe.places import parse_yaml as parse_yaml
    from merging.recipe.recipe import Recipe as Recipe
    from merging.recipe.source import find_source as find_source
    from merging.recipe.source import open_source as open_source
    from merging.recipe.text import read_recipe as read_recipe
    from merging.recipe.text import write_yaml as write_yaml
    from merging.store.tasks import TaskStore as TaskStore
    from merging.sweep.sweep import Point as Point
    from merging.sweep.sweep import pareto as pareto

_HOMES = {
    "BLOCK_PRESETS": "analysis.block_text",
    "BlockWeights": "analysis.blocks",
    "Checkpoint": "checkpoint.tensors",
    "Diagnosis": "analysis.diagnosis",
    "Hub": "hub.client",
    "Job": "jobs.job",
    "Jobs": "jobs.jobs",
    "LiveScorer": "demo.live",
    "Map": "analysis.map",
    "MemoryCheckpoint": "checkpoint.tensors",
    "MemorySink": "checkpoint.sink",
    "MergingError": "errors",
    "Method": "methods.declare",
    "Plan": "planning.plan",
    "Point": "sweep.sweep",
    "Positions": "analysis.positions",
    "Problems": "errors",
    "Recipe": "recipe.recipe",
    "Selection": "analysis.blocks",
    "Table": "analysis.table",
    "TaskStore": "store.tasks",
    "TensorSpec": "checkpoint.tensors",
    "all_methods": "methods.declare",
    "block_settings": "analysis.block_settings",
    "check": "planning.check",
    "compare_ledgers": "jobs.compare",
    "compare_merges": "jobs.compare",
    "compare_recipes": "jobs.compare",
    "compress": "engine.compress",
    "contents": "analysis.contents",
    "contrast": "analysis.contents",
    "cost": "methods.describe",
    "density_curve": "analysis.diagnosis",
    "diagnose": "analysis.diagnose",
    "explain": "planning.explain",
    "find_source": "recipe.source",
    "find_zoo": "demo.zoo",
    "foresee": "publish.foresight",
    "hub_account": "hub.search",
    "intruders": "analysis.intruders",
    "merge": "engine.merge",
    "merge_method": "methods.declare",
    "merge_tensor": "methods.apply",
    "open_source": "recipe.source",
    "pareto": "sweep.sweep",
    "parse_hub_name": "hub.names",
    "parse_yaml": "recipe.places",
    "part_of": "analysis.blocks",
    "plan": "planning.build",
    "push": "publish.push",
    "read_block_weights": "analysis.block_text",
    "read_curve": "analysis.curves",
    "read_recipe": "recipe.text",
    "readable": "planning.explain",
    "recall_diagnosis": "analysis.diagnose",
    "run": "engine.run",
    "score_recipe": "demo.live",
    "search_hub": "hub.search",
    "spectra": "analysis.spectra",
    "summary": "analysis.summary",
    "tensor_statistics": "analysis.contents",
    "verify": "engine.verify",
    "write_block_weights": "analysis.block_writing",
    "write_yaml": "recipe.text",
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
