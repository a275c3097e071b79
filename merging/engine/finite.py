"""Whole-model sums that are not finite: which model keeps them from being so, and in which tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from merging.engine.execute import Execution
from merging.errors import CheckpointError, MergingError
from merging.lazy import Int, Tensor, torch
from merging.methods.application import BLOCK, blocks
from merging.planning.plan import Job, Operand


def are_finite(measured: Mapping[str, Tensor]) -> bool:
    """Whether all sums are finite. A rank beyond all entries is spelled NaN, so that others may be good as well."""
    return all(bool(torch.isfinite(each).all()) for each in measured.values() if each.is_floating_point())


def non_finite(x: Tensor) -> Int[Tensor, " models"]:
    """A measuring round: entries of each operand that are not finite."""
    return torch.isfinite(x).logical_not_().flatten(1).sum(1)


def problems(run: Execution, found: Sequence[tuple[Job, Tensor]]) -> list[MergingError]:
    """One for each model that is not finite in the first of the tensors where any is, the base model included.

    `found` is what `non_finite` counted in the tensors where that is not 0, in order.
    """
    return list(_problems(run, found))


def _problems(run: Execution, found: Sequence[tuple[Job, Tensor]]) -> Iterator[MergingError]:
    # Differences from a base model that is not finite are not either: entries are looked at as they are stored.
    for job, _ in found[:1]:
        more = f"; it is one of {len(found)} such tensors" if len(found) > 1 else ""
        for source in job.sources:
            count = _count(run, source, job.spec.entries)
            if count:
                yield CheckpointError(
                    f"{run.models[source.model].location} has entries that are not finite, and {job.method}, which "
                    "measures the whole model, would make others of them",
                    where=f"{count:,} of {job.spec.entries:,} in {source.name}{more}",
                    must_be="finite entries",
                    fix="repair the model, leave it out, or take a method that measures tensor by tensor",
                )


def _count(run: Execution, source: Operand, entries: int) -> int:
    parts = (run.read(source, a, b) for a, b in blocks(0, entries, BLOCK))
    return sum(part.numel() - int(torch.isfinite(part.to(torch.float32)).sum()) for part in parts)
