"""Diagnose fine-tunes of one base model: everything that one pass over the weights can tell, in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, Literal, TypeAlias

from merging.analysis.cache import cache_folder, recall, remember
from merging.analysis.diagnosis import Diagnosis, Placed, density_curve
from merging.analysis.magnitudes import SCALE
from merging.analysis.measures import Account, Sums, added, stacked
from merging.analysis.signs import MOST_CODED
from merging.checkpoint.tensors import DTYPES, Checkpoint
from merging.engine.execute import AHEAD, Execution, spans_of
from merging.engine.lane import Lane
from merging.engine.pools import Pool, Task, Work
from merging.errors import MergingError, OutputError, Problems, RecipeError, raise_all
from merging.families.family import recognise
from merging.lazy import Int, Tensor, torch
from merging.methods.application import blocks, padded
from merging.planning.build import GiB, plan
from merging.planning.choose import usual_workers
from merging.planning.plan import Job, Plan
from merging.recipe.recipe import ModelEntry, Recipe
from merging.recipe.source import open_source

__all__ = ["Diagnosis", "Placed", "density_curve", "diagnose", "open_inputs"]

Model: TypeAlias = str | Path | Checkpoint
Watch: TypeAlias = Callable[[int, int], None]

# Enters the fingerprint: what was measured otherwise must not be recalled.
VERSION = 2
BLOCK = 1 << 18
# Of tensors of so many entries and more, one entry in SAMPLED enters the counts of magnitudes. A quarter of a million
# tells shares of one percent to 0.02 percent, far nearer than the bins do, and counting takes the longest of all.
LARGE, SAMPLED = 1 << 20, 4
# What a worker holds of each entry of a block, in bytes: for every input itself, its square and its code; the code of
# the signs; for every input its sign, where models are too many for a code.
INPUT_BYTES, CODE_BYTES, SIGN_BYTES = 13, 8, 8
# What is done with tensors that a model lacks or has beyond the base.
USUAL = {"missing_tensors": "refuse", "extra_tensors": "drop"}
# Progress is reported once so many bytes have been read.
REPORT_BYTES = 1 << 26


def diagnose(
    models: Sequence[Model],
    base: Model,
    *,
    missing_tensors: Literal["refuse", "base"] = "refuse",
    extra_tensors: Literal["refuse", "drop"] = "drop",
    allow_pickle: bool = False,
    cache: bool | Path = True,
    workers: int | None = None,
    memory: int = 4 * GiB,
    watch: Watch | None = None,
) -> Diagnosis:
    """Norms, angles, sign conflicts and magnitudes of the task vectors of `models`, from one pass over the weights.

    `models` and `base` are what a recipe may name, `base+adapter` among them, or opened checkpoints. What a model lacks
    is refused, as in a merge, or with `missing_tensors="base"` taken from the base; what it has beyond the base is left
    out and noted in the warnings, or with `extra_tensors="refuse"` refused. `memory` in bytes bounds the buffers.
    `cache` keeps the diagnosis in the user's cache folder, or in the folder it names, by the fingerprint of the inputs,
    and gives it again without reading a weight. `watch` is told how many bytes of how many have been read. The numbers
    do not depend on `workers`.

    Sums over a block of 2^18 entries are in float32, over blocks in float64: inner products are off by up to 1e-5 of
    the product of the norms. Magnitudes of tensors from LARGE entries on are counted by a sample.

    Raises everything that is wrong at once: CheckpointError, MatchError, RecipeError; OutputError when the buffers of
    one worker do not fit `memory`.
    """
    opened = open_inputs(models, base, allow_pickle=allow_pickle)
    locations = tuple(model.location for model in opened)
    options = {"missing_tensors": missing_tensors, "extra_tensors": extra_tensors}
    folder = cache_folder(cache)
    fingerprint = _fingerprint(opened, options)
    _require_memory(len(opened), memory)
    known = recall(folder, fingerprint, locations[0], locations[1:])
    if known is not None:
        return known
    wish = plan_together(opened, options)
    jobs = [job for job in wish.jobs if job.rule == "merge" and job.counted]
    sums = _Pass(wish, jobs, _fitting(len(opened), memory, workers), watch).sums()
    diagnosis = Diagnosis(
        base=locations[0],
        models=locations[1:],
        tensors=_placed(opened, jobs),
        fingerprint=fingerprint,
        warnings=wish.warnings,
        **{field.name: getattr(sums, field.name) for field in fields(Sums)},
    )
    remember(folder, diagnosis)
    return diagnosis


def recall_diagnosis(models: Sequence[Model], base: Model, *, cache: bool | Path = True) -> Diagnosis | None:
    """What `diagnose` with its usual options found of these models before; None where they are to be read."""
    opened = open_inputs(models, base)
    locations = tuple(model.location for model in opened)
    return recall(cache_folder(cache), _fingerprint(opened, USUAL), locations[0], locations[1:])


def open_inputs(models: Sequence[Model], base: Model, *, allow_pickle: bool = False) -> list[Checkpoint]:
    """The base model and then the others, opened. Raises all that is wrong with any of them."""
    if not models:
        raise RecipeError("there is no model to diagnose", must_be="one or more fine-tunes beside the base model")
    opened: list[Checkpoint] = []
    problems: list[MergingError] = []
    for model in (base, *models):
        try:
            opened.append(
                open_source(str(model), allow_pickle=allow_pickle) if isinstance(model, str | Path) else model
            )
        except Problems as several:
            problems += several.problems
        except MergingError as problem:
            problems.append(problem)
    raise_all(problems)
    return opened


def _fingerprint(opened: Sequence[Checkpoint], options: Mapping[str, str]) -> str:
    text = json.dumps([VERSION, [model.fingerprint for model in opened], options], sort_keys=True)
    return sha256(text.encode()).hexdigest()


def _buffer_bytes(inputs: int) -> int:
    """What the buffers of one worker take."""
    return BLOCK * (inputs * (INPUT_BYTES + (SIGN_BYTES if inputs > MOST_CODED else 0)) + CODE_BYTES)


def _fitting(inputs: int, memory: int, workers: int | None) -> int:
    """As many workers as wanted or usual, or fewer where their buffers would not fit."""
    return max(1, min(workers or usual_workers(), memory // _buffer_bytes(inputs)))


def _require_memory(inputs: int, memory: int) -> None:
    needed = _buffer_bytes(inputs)
    if memory < needed:
        raise OutputError(
            f"blocks of {inputs} models take {needed:,} bytes",
            must_be=f"a memory of at least {needed:,} bytes, not {memory:,}",
            fix=f"pass --memory {-(-needed // (1 << 20))}MiB",
        )


def plan_together(opened: Sequence[Checkpoint], options: Mapping[str, Any]) -> Plan:
    """The plan of a merge of these models: it says which tensors go together, or what does not fit."""
    keys: list[str] = []
    for model in opened:
        # A recipe takes models of one name for one model; here the base may be diagnosed as one of the others.
        repeated = sum(key == model.location or key.startswith(f"{model.location} (") for key in keys)
        keys.append(f"{model.location} ({repeated + 1})" if repeated else model.location)
    entries = tuple(ModelEntry(key) for key in keys[1:])
    recipe = Recipe(method="task_arithmetic", models=entries, base_model=keys[0], **options)
    return plan(recipe, checkpoints=dict(zip(keys, opened, strict=True)))


def _placed(opened: Sequence[Checkpoint], jobs: Sequence[Job]) -> tuple[Placed, ...]:
    base = opened[0]
    config = next((model.config for model in opened if model.config), {})
    family = recognise(base.config or config, base.specs)
    return tuple(
        Placed(
            name=job.spec.name,
            shape=job.spec.shape,
            entries=job.spec.entries,
            stack=family.place(job.spec.name).stack,
            layer=job.layer,
            role=job.role or _role(job),
        )
        for job in jobs
    )


def _role(job: Job) -> str:
    """In an architecture that no family describes, what stands after the number of the layer."""
    return job.spec.name.rpartition(f".{job.layer}.")[2]


class _Nowhere:
    """A target for a pass that writes nothing."""

    def write(self, name: str, start: int, block: Tensor) -> None:
        """Nothing is kept."""

    def settle(self, name: str) -> None:
        """Nothing is pending."""


class _Pass:
    """One pass over the weights: works of the pool, one a tensor, each a stage of spans."""

    def __init__(self, wish: Plan, jobs: Sequence[Job], workers: int, watch: Watch | None):
        self._jobs = jobs
        self._models = len(wish.models) - 1
        self._watch = watch
        # No task takes memory beyond its worker's buffers.
        self._pool = Pool(workers, 0, "cpu")
        self._run = Execution(wish.models, _Nowhere(), self._pool.stop, self._count)
        self._counting = Lock()
        self._unreported = 0

    def sums(self) -> Sums:
        """Sums of every tensor, in the order of the jobs."""
        found: dict[int, Sums] = {}
        done, total = 0, sum(job.spec.entries * self._width(job) for job in self._jobs)
        for position, result in self._pool.drive(self._work(job) for job in self._jobs):
            if position is not None:
                found[position] = result
            elif self._watch:
                done += result
                self._watch(done, total)
        if self._watch:
            self._watch(total, total)
        if not found:
            return _without_tensors(self._models)
        return stacked([found[i] for i in range(len(self._jobs))])

    def _width(self, job: Job) -> int:
        specs = (self._run.models[each.model].specs[each.name] for each in job.sources)
        return sum(DTYPES[spec.dtype].bits // 8 for spec in specs)

    def _work(self, job: Job) -> Work:
        parts = yield [Task(partial(self._span, job, a, b)) for a, b in spans_of(job.spec.entries)]
        return added(parts)

    def _span(self, job: Job, start: int, stop: int, lane: Lane) -> Sums:
        account = Account(len(job.operands), SAMPLED if job.spec.entries >= LARGE else 1)
        x = lane.scratch("stack", len(job.sources), padded(min(BLOCK, stop - start)))
        rows, width = x.unbind(), self._width(job)
        for a, b in self._ranges(job, start, stop):
            if padded(b - a) < x.shape[1]:
                x = lane.scratch("stack", len(job.sources), padded(b - a))
                rows = x.unbind()
            stored = self._load(job, rows, a, b, lane)
            if not account.add(x, b - a):
                clean, counts = _cleaned(stored)
                account.add_non_finite(counts)
                if not account.add(clean, b - a):
                    raise AssertionError("finite float32 numbers have finite sums in float64")
            self._count((b - a) * width, 0)
        return account.sums()

    def _ranges(self, job: Job, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The blocks of a span, asking for the bytes ahead of them."""
        asked = start
        for a, b in blocks(start, stop, BLOCK):
            if b > asked - AHEAD // 2 and asked < stop:
                self._run.ahead(job.sources, asked, min(asked + AHEAD, stop))
                asked += AHEAD
            yield a, b

    def _load(self, job: Job, rows: Sequence[Tensor], a: int, b: int, lane: Lane) -> list[Tensor]:
        """Minus the base model, and the task vectors, times SCALE; also everything as stored."""
        stored: list[Tensor] = []
        for row, operand in zip(rows, job.sources, strict=True):
            raw = self._run.read(operand, a, b)
            lane.load(raw, row, "operand")
            if stored:
                torch.add(rows[0], row, alpha=SCALE, out=row)
            else:
                row.mul_(-SCALE)
            stored.append(raw)
        return stored

    def _count(self, read_bytes: int, _: int) -> None:
        with self._counting:
            self._unreported += read_bytes
            if self._unreported >= REPORT_BYTES:
                self._pool.emit(self._unreported)
                self._unreported = 0


def _cleaned(stored: Sequence[Tensor]) -> tuple[Tensor, Int[Tensor, " inputs"]]:
    """A block in float64 with zeros for every entry that is no finite float32, and how many of each input are none."""
    rows = torch.stack([raw.to(torch.float32).double() for raw in stored])
    finite = torch.isfinite(rows)
    rows[1:] -= rows[0].clone()
    rows[0].neg_()
    rows[0][~finite[0]] = 0.0
    rows[1:][~(finite[1:] & finite[0])] = 0.0
    return rows * SCALE, (~finite).sum(1)


def _without_tensors(models: int) -> Sums:
    """The sums of a model that has no tensor of numbers: none."""
    one = Account(models).sums()
    return Sums(
        **{field.name: getattr(one, field.name).new_zeros(0, *getattr(one, field.name).shape) for field in fields(Sums)}
    )
