"""What a plan gets from the Hub: bytes, by the way in which they are fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from merging.checkpoint.adapters import AdaptedCheckpoint
from merging.checkpoint.tensors import Checkpoint
from merging.errors import MergingError, OutputError
from merging.hub.checkpoint import HubCheckpoint
from merging.hub.client import cache_folder
from merging.methods.declare import find_method
from merging.planning.choose import Choice
from merging.planning.plan import Job, Plan
from merging.store.tasks import TaskCheckpoint


def fetched_bytes(plan: Plan, choices: Sequence[Choice]) -> int:
    """Bytes of weights that a run moves over the network; files that are kept count once, others for every reading.

    Ranges that stay in memory between two readings of a tensor are counted twice all the same.
    """
    remote = [(i, each) for i, model in enumerate(plan.models) for each in _repositories(model)]
    passing = sum(_walks(plan, i) * sum(each.missing().values()) for i, each in remote if each.fetch == "shards")
    ranged = any(each.fetch == "ranges" for _, each in remote)
    ways = zip(plan.jobs, choices, strict=True) if ranged else ()
    return sum(_kept(each for _, each in remote)) + passing + round(sum(_ranged_bytes(plan, *way) for way in ways))


def room_problems(plan: Plan, free_bytes: Callable[[Path], int]) -> list[MergingError]:
    """Whether what is fetched whole fits where it is put; `free_bytes` tells the room of a folder, made or not."""
    found = [each for model in plan.models for each in _repositories(model)]
    # Of files that are removed after use two lie there at a time.
    passing = {id(each): sorted(each.missing().values())[-2:] for each in found if each.fetch == "shards"}
    needed = sum(_kept(found)) + sum(map(sum, passing.values()))
    if not needed:
        return []
    place = cache_folder()
    free = free_bytes(place)
    if free >= needed:
        return []
    return [
        OutputError(
            f"the disk of {place} has {free:,} bytes free, and the files to fetch take {needed:,}",
            must_be=f"at least {needed:,} bytes free",
            fix="free space, set HF_HOME to a folder on another disk, or pass --fetch ranges, which needs none",
        )
    ]


def _repositories(model: Checkpoint) -> list[HubCheckpoint]:
    """The repositories behind a model, behind the base model of an adapter, or behind a task of a store."""
    if isinstance(model, AdaptedCheckpoint):
        return _repositories(model.base)
    if isinstance(model, TaskCheckpoint):
        return [each for part in model.made_of for each in _repositories(part)]
    return [model] if isinstance(model, HubCheckpoint) else []


def _kept(repositories: Iterable[HubCheckpoint]) -> Iterable[int]:
    """Sizes of the files that are fetched into the cache; what several models are made of is one file there."""
    found: dict[tuple[str, str, str], int] = {}
    for each in repositories:
        found |= each.missing() if each.fetch == "snapshot" else {}
    return found.values()


def _walks(plan: Plan, model: int) -> int:
    """How often all tensors of a model are walked through, one after another."""
    walks = 1
    for job in plan.jobs:
        if job.rule == "merge" and any(each.model == model for each in job.sources):
            method = find_method(job.method)
            if method.needs.scope == "model":
                walks = max(walks, 1 + len(method.needs.readings({**method.defaults(), **job.parameters})))
    return walks


def _ranged_bytes(plan: Plan, job: Job, choice: Choice) -> float:
    """The job's sources by range, as often as it reads them."""
    models = [(plan.models[each.model], each.name) for each in job.sources]
    once = sum(model.specs[name].nbytes for model, name in models)
    return choice.read_bytes * sum(_by_range(model, name) for model, name in models) / once if once else 0.0


def _by_range(model: Checkpoint, name: str) -> int:
    """Bytes that one reading of a tensor takes from the Hub."""
    if isinstance(model, TaskCheckpoint):
        return sum(_by_range(part, stored) for part, stored in model.reads(name))
    ranged = any(each.fetch == "ranges" for each in _repositories(model))
    return model.specs[name].nbytes if ranged else 0
