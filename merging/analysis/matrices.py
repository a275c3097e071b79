"""Every matrix of a base model and its fine-tunes, one at a time within a memory budget, measured into a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from merging.analysis.diagnose import Model, Watch, open_inputs, plan_together
from merging.analysis.names import short_names
from merging.analysis.table import Measurement, Table
from merging.checkpoint.tensors import Checkpoint
from merging.engine.pools import Pool, Task, Work
from merging.errors import OutputError
from merging.families.family import recognise
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import is_matrix
from merging.methods.layout import by_matrix
from merging.planning.build import GiB
from merging.planning.choose import usual_workers
from merging.planning.plan import Job, Plan

FLOAT64_BYTES = 8


@dataclass(frozen=True)
class Limits:
    """What a walk takes: only so many `largest` matrices, threads, bytes; `watch(done, of)` is called after each."""

    largest: int | None = None
    workers: int | None = None
    memory: int = 4 * GiB
    watch: Watch | None = None


@dataclass(frozen=True)
class Fit:
    """What becomes of models that lack tensors of the base model or have others, and whether pickles are read."""

    missing_tensors: Literal["refuse", "base"] = "refuse"
    extra_tensors: Literal["refuse", "drop"] = "drop"
    allow_pickle: bool = False


@dataclass(frozen=True)
class Named:
    """Rows of one matrix; a tensor that holds several has their number at the end of its role."""

    tensor: str
    stack: str
    layer: int | None
    role: str
    entries: int

    def row(self, quantity: str, value: float, i: str | None = None, j: str | None = None) -> Measurement:
        """A measurement of this matrix."""
        return Measurement(self.tensor, self.stack, self.layer, self.role, quantity, i, j, value, self.entries)


# From the place of a matrix, the base model's and the fine-tuned ones, as stored, and the models' names.
Measure: TypeAlias = Callable[[Named, Tensor, Sequence[Tensor], Sequence[str]], Iterable[Measurement]]


def over_matrices(
    models: Sequence[Model],
    base: Model,
    measure: Measure,
    scratch: Callable[[int, int, int], int],
    limits: Limits,
    fit: Fit | None = None,
) -> Table:
    """What `measure` says of every matrix that base and models share, in the order of the base model's tensors.

    Matrices are what methods of matrices see: kernels as (out, rest), fused query-key-value in three, no embeddings and
    no output heads. `scratch(rows, columns, models)` is the memory in bytes that measuring one takes beside its entries
    as stored.

    Raises what planning a merge of these models raises, and OutputError where a matrix does not fit the memory.
    """
    planned, names = planned_together(models, base, fit)
    jobs = _wanted(planned.jobs, limits.largest)
    sizes = [_nbytes(job, planned, scratch) for job in jobs]
    _require_memory(jobs, sizes, limits.memory)
    bare = planned.models[jobs[0].base.model] if jobs and jobs[0].base else planned.models[0]
    config = next((model.config for model in (bare, *planned.models) if model.config), {})
    family = recognise(config, bare.specs)
    pool = Pool(limits.workers or usual_workers(), limits.memory, "cpu")
    works = (
        _work(job, family.place(job.spec.name).stack, planned.models, names, measure, nbytes)
        for job, nbytes in zip(jobs, sizes, strict=True)
    )
    found: dict[int, list[Measurement]] = {}
    for position, rows in pool.drive(works):
        if position is not None:
            found[position] = rows
            if limits.watch:
                limits.watch(len(found), len(jobs))
    return Table(tuple(row for position in sorted(found) for row in found[position]))


def planned_together(models: Sequence[Model], base: Model, fit: Fit | None = None) -> tuple[Plan, tuple[str, ...]]:
    """Which tensors of base and fine-tunes belong together, as the plan of their sum, and short names of the models.

    What only some models have beyond the base is left out, unless `fit` says otherwise. Raises what does not fit.
    """
    fit = fit or Fit()
    opened = open_inputs(models, base, allow_pickle=fit.allow_pickle)
    names = short_names([checkpoint.location for checkpoint in opened[1:]])
    options = {"missing_tensors": fit.missing_tensors, "extra_tensors": fit.extra_tensors}
    return plan_together(opened, options), names


def _wanted(jobs: Sequence[Job], largest: int | None) -> list[Job]:
    """Matrices in the order of the jobs; of many those with the most entries, the first of equal ones."""
    found = [
        job for job in jobs if job.rule == "merge" and job.counted and is_matrix(job.spec.shape, job.role, job.layout)
    ]
    if largest is None:
        return found
    kept = sorted(range(len(found)), key=lambda i: -found[i].spec.entries)[:largest]
    return [found[i] for i in sorted(kept)]


def _nbytes(job: Job, planned: Plan, scratch: Callable[[int, int, int], int]) -> int:
    rows, columns = job.layout.sides(job.spec.shape)
    stored = sum(planned.models[each.model].specs[each.name].nbytes for each in job.sources)
    return stored + scratch(rows, columns, len(job.operands))


def _require_memory(jobs: Sequence[Job], sizes: Sequence[int], memory: int) -> None:
    needed, name = max(((size, job.spec.name) for job, size in zip(jobs, sizes, strict=True)), default=(0, ""))
    if needed > memory:
        raise OutputError(
            f"{name} is decomposed whole, which takes {needed:,} bytes",
            must_be=f"a memory of at least {needed:,} bytes, not {memory:,}",
            fix="give more memory",
        )


def _work(
    job: Job, stack: str, models: Sequence[Checkpoint], names: Sequence[str], measure: Measure, nbytes: int
) -> Work:
    def decompose(_: object) -> list[Measurement]:
        rows: list[Measurement] = []
        places = _parts(job, stack)

        def measured(base: Tensor, *tuned: Tensor) -> Tensor:
            rows.extend(measure(next(places), base, tuned, names))
            return torch.empty(0, 0)

        stored = [models[each.model].read(each.name) for each in job.sources]
        by_matrix(measured, job.spec.shape, job.layout, *stored)
        return rows

    (found,) = yield [Task(decompose, nbytes)]
    return found


def _parts(job: Job, stack: str) -> Iterator[Named]:
    """The matrices of a tensor in order: one, or several that are numbered."""
    labels = job.layout.labels(job.spec.shape)
    named = job.role or job.spec.name.rpartition(f".{job.layer}.")[2]
    for label in labels:
        role = f"{named}.{label}" if label else named
        yield Named(job.spec.name, stack, job.layer, role, job.spec.entries // len(labels))


def task_vector(
    tuned: Float[Tensor, "rows columns"], base: Float[Tensor, "rows columns"]
) -> Float[Tensor, "rows columns"]:
    """Fine-tuned minus base in float64, a copy."""
    # torch subtracts no eight-bit floats.
    return tuned.to(torch.float64, copy=True).sub_(base.to(torch.float32) if base.dtype.itemsize < 2 else base)
