"""How each job will be carried out, and what that costs in bytes read, bytes written and memory.

Which execution a job gets follows from what its method declares, never from its name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from merging.algebra.windows import sampled_entries
from merging.checkpoint.tensors import Checkpoint
from merging.errors import MergingError, OutputError
from merging.methods.application import BLOCK, MEASURING_BLOCK
from merging.methods.declare import Method, Reach, find_method
from merging.methods.rounds import Rule, is_sampled
from merging.planning.plan import Job

FLOAT32_BYTES = 4
# Buffers of a worker beside one per input: result, scratch of the method, the rounded block.
SPARE_BUFFERS = 4
SPARE_TENSORS = 3

# Spectral methods work in float64, on a copy of every operand and on a handful of factors.
MATRIX_COPIES, MATRIX_FACTORS = 3, 10

Kind = Literal["copy", "linear", "blocks", "rows", "whole matrix", "whole tensor", "fold"]


@dataclass(frozen=True, slots=True)
class Choice:
    """The execution of one job.

    `rounds` name the measuring rounds before it, `round_bytes` is what each reads; rounds that only what was measured
    may call for are left out. `spooled_bytes` wait on disk for a finish. `buffer_bytes` are the cache blocks of one
    worker; `held_bytes` what must be in memory beside them: a whole tensor, or whole rows.
    """

    kind: Kind
    rounds: tuple[str, ...]
    read_bytes: int
    written_bytes: int
    spooled_bytes: int
    buffer_bytes: int
    held_bytes: int = 0
    round_bytes: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """As a person says it: "gram + linear pass"."""
        steps = [name.replace("_", " ") for name in self.rounds]
        return " + ".join([*steps, "linear pass" if self.kind == "linear" else self.kind])


@dataclass(frozen=True, slots=True)
class Cost:
    """What a whole plan costs. Memory is that of the engine's buffers."""

    read_bytes: int
    written_bytes: int
    spooled_bytes: int
    memory_bytes: int


def choose(job: Job, models: Sequence[Checkpoint]) -> Choice:
    """The execution of a job."""
    once = sum(models[each.model].specs[each.name].nbytes for each in job.sources)
    written = job.spec.nbytes
    if job.rule == "copy":
        return Choice("copy", (), once, written, 0, SPARE_BUFFERS * BLOCK * FLOAT32_BYTES)
    method = find_method(job.method)
    steps = method.needs.readings({**method.defaults(), **job.parameters})
    read_by_round = tuple(_read_bytes(step, once, job.spec.entries) for step in steps)
    spooled = job.spec.entries * FLOAT32_BYTES if method.needs.finish else 0
    read = once + sum(read_by_round) + spooled
    if spooled and job.base:
        read += models[job.base.model].specs[job.base.name].nbytes
    beside = [models[each.model].specs[each.name] for group in job.companions.values() for each in group]
    read += sum(spec.nbytes for spec in beside)
    buffers = (len(job.sources) + len(beside) + SPARE_BUFFERS) * (MEASURING_BLOCK if steps else BLOCK) * FLOAT32_BYTES
    reach = method.reach(job.spec.shape, job.role, job.layout)
    held = _held_bytes(job, method, reach)
    if reach == "matrix":
        held += MATRIX_COPIES * FLOAT32_BYTES * sum(spec.entries for spec in beside)
    names = tuple(step.__name__ for step in steps)
    return Choice(_kind(method, reach), names, read, written, spooled, buffers, held, read_by_round)


def _read_bytes(step: Rule, once: int, entries: int) -> int:
    """Bytes that a measuring round reads: all of every input, or as much as is sampled."""
    return once * sampled_entries(entries) // max(1, entries) if is_sampled(step) else once


def _kind(method: Method, reach: Reach) -> Kind:
    if reach == "span":
        return "linear"
    if method.needs.order == "sequential":
        return "fold"
    kinds: dict[Reach, Kind] = {
        "element": "blocks",
        "row": "rows",
        "matrix": "whole matrix",
        "tensor": "whole tensor",
    }
    return kinds[reach]


def _held_bytes(job: Job, method: Method, reach: Reach) -> int:
    """Float32 copies of a whole tensor, or of as many rows as make a block, at least one, however long."""
    columns = max(1, job.spec.shape[-1] if job.spec.shape else 1)
    held = 3 if method.needs.order == "sequential" else len(job.sources)
    if reach == "matrix":
        return (MATRIX_COPIES * held + MATRIX_FACTORS) * job.spec.entries * FLOAT32_BYTES
    entries = {"tensor": job.spec.entries, "row": columns if columns > BLOCK else 0}.get(reach, 0)
    return (held + SPARE_TENSORS) * entries * FLOAT32_BYTES


def total(choices: Sequence[Choice], memory: int, workers: int) -> Cost:
    """What a plan costs whose jobs are carried out so, on so many workers within so much memory."""
    held = max((choice.held_bytes for choice in choices), default=0)
    buffers = workers * worker_bytes(choices)
    side_by_side = max(1, min(workers, (memory - buffers) // max(1, held)))
    return Cost(
        sum(choice.read_bytes for choice in choices),
        sum(choice.written_bytes for choice in choices),
        sum(choice.spooled_bytes for choice in choices),
        buffers + side_by_side * held,
    )


def worker_bytes(choices: Sequence[Choice]) -> int:
    """Cache blocks of one worker, for the job that needs the most."""
    return max((choice.buffer_bytes for choice in choices), default=0)


def fitting_workers(choices: Sequence[Choice], memory: int, wanted: int | None = None) -> int:
    """As many workers as wanted or usual, or fewer where their buffers would not fit the memory."""
    return max(1, min(wanted or usual_workers(), memory // max(1, worker_bytes(choices))))


def memory_problems(jobs: Sequence[Job], models: Sequence[Checkpoint], memory: int) -> list[MergingError]:
    """Tensors that must be held whole or in whole rows and do not fit; buffers that do not fit by themselves."""
    needed: dict[str, list[tuple[int, str]]] = {}
    for job in jobs:
        choice = choose(job, models)
        nbytes = choice.held_bytes + choice.buffer_bytes
        if nbytes > memory:
            units = {"whole tensor": "the whole tensor", "whole matrix": "the whole matrix", "rows": "whole rows"}
            unit = units.get(choice.kind, "buffers")
            needed.setdefault(f"{job.method or job.rule} needs {unit} in memory", []).append((nbytes, job.spec.name))
    problems: list[MergingError] = []
    for need, found in needed.items():
        nbytes, name = max(found)
        problems.append(
            OutputError(
                f"{need}: {nbytes:,} bytes for {name}",
                where=f"{len(found)} of {len(jobs)} tensors need more than the {memory:,} bytes of --memory",
                must_be=f"--memory of at least {nbytes:,} bytes",
                fix=f"pass --memory {-(-nbytes // (1 << 20))}MiB",
            )
        )
    return problems


def usual_workers() -> int:
    """As many threads as this process may use cores, at most eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores))
