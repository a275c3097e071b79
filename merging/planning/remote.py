"""What a plan gets from the Hub: bytes, by the way in which they are fetched."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from merging.checkpoint.adapters import AdaptedCheckpoint
from merging.checkpoint.tensors import Checkpoint
from merging.errors import MergingError, OutputError
from merging.hub.checkpoint import HubCheckpoint
from merging.hub.client import cache_folder
from merging.methods.declare import find_method
from merging.planning.choose import Choice
from merging.planning.plan import Job, Plan


def fetched_bytes(plan: Plan, choices: Sequence[Choice]) -> int:
    """Bytes of weights that a run moves over the network; files that are kept count once, others for every reading.

    Ranges that stay in memory between two readings of a tensor are counted twice all the same.
    """
    remote = {i: found for i, model in enumerate(plan.models) if (found := _repository(model)) is not None}
    whole = sum(model.fetch_bytes * (_walks(plan, i) if model.fetch == "shards" else 1) for i, model in remote.items())
    ranged = {i for i, model in remote.items() if model.fetch == "ranges"}
    ways = zip(plan.jobs, choices, strict=True) if ranged else ()
    return whole + round(sum(_ranged_bytes(plan, job, choice, ranged) for job, choice in ways))


def room_problems(plan: Plan, free_bytes: Callable[[Path], int]) -> list[MergingError]:
    """Whether what is fetched whole fits where it is put; `free_bytes` tells the room of a folder, made or not."""
    found = [repository for model in plan.models if (repository := _repository(model)) is not None]
    needed = sum(each.room_bytes for each in {id(each): each for each in found}.values())
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


def _repository(model: Checkpoint) -> HubCheckpoint | None:
    """The repository behind a model, or behind the base model of an adapter."""
    inner = model.base if isinstance(model, AdaptedCheckpoint) else model
    return inner if isinstance(inner, HubCheckpoint) else None


def _walks(plan: Plan, model: int) -> int:
    """How often all tensors of a model are walked through, one after another."""
    walks = 1
    for job in plan.jobs:
        if job.rule == "merge" and any(each.model == model for each in job.sources):
            method = find_method(job.method)
            if method.needs.scope == "model":
                walks = max(walks, 1 + len(method.needs.readings({**method.defaults(), **job.parameters})))
    return walks


def _ranged_bytes(plan: Plan, job: Job, choice: Choice, ranged: Collection[int]) -> float:
    sizes = [(each.model, plan.models[each.model].specs[each.name].nbytes) for each in job.sources]
    once = sum(nbytes for _, nbytes in sizes)
    share = sum(nbytes for model, nbytes in sizes if model in ranged)
    return choice.read_bytes * share / once if once else 0.0
