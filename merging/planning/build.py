"""From a recipe to a plan: open, recognise, match, settle; every problem at once, no tensor byte read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from merging.checkpoint.tensors import Checkpoint
from merging.errors import MergingError, OutputError, Problems, raise_all
from merging.hub.fetching import Fetch
from merging.methods.declare import Method, find_method
from merging.planning.choose import memory_problems
from merging.planning.disagreements import Disagreements
from merging.planning.inputs import Inputs, open_inputs
from merging.planning.jobs import JobMaker, whole_model_problems
from merging.planning.matching import match_all
from merging.planning.output import config_warnings, find_outline, find_sidecars, output_config
from merging.planning.plan import Job, Plan
from merging.planning.sections import make_sections
from merging.recipe.checks import check_parameters, parameter_warnings, unmatched_filters
from merging.recipe.recipe import Recipe
from merging.recipe.text import read_recipe

GiB = 1 << 30


@dataclass(frozen=True)
class Wishes:
    """How a plan is to be carried out; what `plan` takes beside the recipe."""

    memory: int = 4 * GiB
    shard_bytes: int = 5_000_000_000
    device: str = "cpu"
    allow_pickle: bool = False
    lenient: bool = False
    allow_unused: bool = False
    fetch: Fetch = "snapshot"
    checkpoints: Mapping[str, Checkpoint] | None = None


@dataclass
class Draft:
    """A plan as far as it could be made, and what is wrong with it."""

    plan: Plan | None = None
    problems: list[MergingError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def plan(
    recipe: Recipe | str | Path,
    *,
    memory: int = 4 * GiB,
    shard_bytes: int = 5_000_000_000,
    device: str = "cpu",
    allow_pickle: bool = False,
    lenient: bool = False,
    allow_unused: bool = False,
    fetch: Fetch = "snapshot",
    checkpoints: Mapping[str, Checkpoint] | None = None,
) -> Plan:
    """Decide what makes every output tensor, from headers alone.

    `recipe` is a `Recipe`, a path, or YAML text. `memory` in bytes bounds the engine's buffers, `shard_bytes` an output
    file. `lenient` passes over unknown keys, `allow_unused` over filters that match no tensor. `fetch` says how bytes
    of models on the Hub are had, see `open_source`. `checkpoints` stands in for sources that the recipe names. Raises
    everything that is wrong at once.
    """
    wishes = Wishes(memory, shard_bytes, device, allow_pickle, lenient, allow_unused, fetch, checkpoints)
    drafted = draft(recipe, wishes)
    raise_all(drafted.problems)
    assert drafted.plan
    return drafted.plan


def draft(recipe: Recipe | str | Path, wishes: Wishes) -> Draft:
    """As much of a plan as can be made; problems are collected, not raised."""
    drafted = Draft()
    try:
        wish = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, lenient=wishes.lenient)
        method = find_method(wish.method, wish.where("merge_method"))
    except Problems as several:
        drafted.problems += several.problems
        return drafted
    except MergingError as problem:
        drafted.problems.append(problem)
        return drafted
    drafted.problems += _device_problems(wishes.device)
    drafted.warnings += [f"ignored: {text}" for text in wish.ignored]
    drafted.warnings += parameter_warnings(wish, method, lenient=wishes.lenient)
    drafted.problems += check_parameters(wish, method, lenient=wishes.lenient)
    inputs, unopened = open_inputs(wish, wishes.checkpoints, wishes.allow_pickle, wishes.fetch)
    drafted.problems += unopened
    if not unopened:
        _fill(drafted, wish, method, inputs, wishes)
    return drafted


def _device_problems(device: str) -> list[MergingError]:
    """Whether the device exists is for the run to find out; here only the spelling can be wrong."""
    if re.fullmatch(r"cpu|cuda(:\d+)?", device):
        return []
    return [OutputError(f"no device is called {device!r}", must_be="cpu, cuda, or cuda: and a number")]


def _fill(drafted: Draft, recipe: Recipe, method: Method, inputs: Inputs, wishes: Wishes) -> None:
    """Sections, matches and jobs; each step only as far as the one before held."""
    sections, problems = make_sections(recipe, method, inputs)
    drafted.problems += problems
    if problems:
        return
    outline = find_outline(recipe, inputs)
    faults = Disagreements(inputs.all, sliced=bool(recipe.slices))
    matches = match_all(recipe, sections, inputs, outline, faults)
    drafted.problems += faults.problems(recipe.extra_tensors)
    drafted.warnings += faults.warnings(recipe.extra_tensors)
    drafted.warnings += config_warnings(sections, outline)
    unmatched = unmatched_filters(recipe, [match.asks for match in matches])
    if wishes.allow_unused:
        drafted.warnings += [f"{problem.where}: {problem.what}" for problem in unmatched]
    else:
        drafted.problems += unmatched
    if drafted.problems:
        return
    maker = JobMaker(recipe, method, inputs)
    jobs = [job for match in matches if (job := maker.make(match)) is not None]
    drafted.problems += maker.problems
    drafted.problems += whole_model_problems(recipe, method, jobs)
    models = tuple(model.checkpoint for model in inputs.all)
    drafted.problems += memory_problems(jobs, models, wishes.memory)
    if not drafted.problems:
        drafted.plan = _plan(
            drafted, recipe, inputs, jobs, wishes, output_config(recipe, sections, outline, jobs, drafted.warnings)
        )


def _plan(
    drafted: Draft, recipe: Recipe, inputs: Inputs, jobs: list[Job], wishes: Wishes, config: Mapping[str, object]
) -> Plan:
    return Plan(
        recipe=recipe.data(),
        models=tuple(model.checkpoint for model in inputs.all),
        jobs=tuple(jobs),
        config=config,
        sidecars=find_sidecars(recipe, inputs),
        seed=recipe.seed,
        memory=wishes.memory,
        shard_bytes=wishes.shard_bytes,
        device=wishes.device,
        warnings=tuple(drafted.warnings),
        sources=tuple(model.key for model in inputs.all),
        recipe_file=recipe.file,
    )
