"""Whether weights that are sent on should be streamed: it saves the disk of the target, and may cost that of sources.

A stream needs tensors in the order of the output's bytes. Where models on a Hub are fetched file after file and their
files have another order, more of them would have to lie on disk at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from merging.checkpoint.layout import Layout
from merging.checkpoint.tensors import Checkpoint
from merging.planning.plan import Job, Plan
from merging.store.tasks import TaskCheckpoint


def streams_well(plan: Plan, layout: Layout, saved_bytes: int) -> bool:
    """Whether reading in the order of the output holds at most `saved_bytes` more of the sources on disk."""
    jobs = {job.spec.name: job for job in plan.jobs}
    in_order = [jobs[name] for name in layout.order]
    fetched = [
        (i, model, part)
        for i, model in enumerate(plan.models)
        for part in getattr(model, "made_of", (model,))
        if getattr(part, "fetch", None) == "shards"
    ]

    def held(order: Sequence[Job]) -> int:
        return sum(stretch(part, _stored(model, part, _read(order, i))) for i, model, part in fetched)

    return held(in_order) - held(plan.jobs) <= saved_bytes


def _stored(model: Checkpoint, part: Checkpoint, names: Iterable[str]) -> Iterable[str]:
    """What is read of a part of a model for its tensors."""
    if not isinstance(model, TaskCheckpoint):
        return names
    return (stored for name in names for place, stored in model.reads(name) if place is part)


def _read(jobs: Sequence[Job], model: int) -> Iterable[str]:
    """Tensors of a model in the order in which jobs read them."""
    for job in jobs:
        beside = (each for several in job.companions.values() for each in several)
        yield from (each.name for each in (*job.sources, *beside) if each.model == model)


def stretch(model: Checkpoint, names: Iterable[str]) -> int:
    """The most bytes of a model, in the order of its files, between a tensor still to be read and one read already.

    `names` are read in this order.
    """
    reading = list(dict.fromkeys(names))
    wanted = set(reading)
    listed = [name for name in model.specs if name in wanted]
    ends = dict(zip(listed, accumulate(model.specs[name].nbytes for name in listed), strict=True))
    unread, done = 0, set[str]()
    most = reached = 0
    for name in reading:
        done.add(name)
        reached = max(reached, ends[name])
        lowest = ends[listed[unread]] - model.specs[listed[unread]].nbytes
        most = max(most, reached - lowest)
        while unread < len(listed) and listed[unread] in done:
            unread += 1
        if unread == len(listed):
            break
    return most
