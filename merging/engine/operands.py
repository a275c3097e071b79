"""Entries of one tensor's operands, read and made float32 where a method computes on them."""

from __future__ import annotations

from merging.engine.cuts import Ranges
from merging.engine.execute import Execution
from merging.engine.lane import Lane
from merging.lazy import Float, Tensor, torch
from merging.planning.plan import Job, Operand


def load_stack(
    run: Execution, job: Job, x: Float[Tensor, "models n"], a: int, b: int, lane: Lane
) -> tuple[list[Tensor], Tensor | None]:
    """Fill `x` with what a method sees of entries [a, b); also the operands as stored, and the base in float32."""
    base: Tensor | None = None
    if job.base:
        base = lane.scratch("base", x.shape[1])
        lane.load(run.read(job.base, a, b), base, "base")
    stored = []
    for i, operand in enumerate(job.operands):
        raw = run.read(operand, a, b)
        lane.load(raw, x[i], f"operand{i}")
        if base is not None:
            x[i].sub_(base)
        stored.append(raw)
    return stored, base


def load_ranges(run: Execution, job: Job, x: Float[Tensor, "models n"], ranges: Ranges, lane: Lane) -> None:
    """Fill `x` with what a method sees of these ranges, side by side."""
    for operand in job.sources:
        for a, b in ranges:
            run.ahead([operand], a, b)

    def load(operand: Operand, into: Float[Tensor, " n"], role: str) -> None:
        lane.load(torch.cat([run.read(operand, a, b) for a, b in ranges]), into, role)

    for i, operand in enumerate(job.operands):
        load(operand, x[i], f"operand{i}")
    if job.base:
        base = lane.scratch("base", x.shape[1])
        load(job.base, base, "base")
        x.sub_(base)


def load_companions(
    run: Execution, job: Job, a: int, b: int, room: int, lane: Lane, *, whole: bool
) -> dict[str, Tensor]:
    """Statistics beside entries [a, b), padded to `room`; whole tensors where the method sees whole ones."""
    held: dict[str, Tensor] = {}
    for name, operands in job.companions.items():
        specs = [run.models[each.model].specs[each.name] for each in operands]
        first, last, entries = (0, specs[0].entries, specs[0].entries) if whole else (a, b, room)
        stack = lane.scratch(name, len(operands), entries)
        for line, each in zip(stack, operands, strict=True):
            lane.load(run.read(each, first, last), line, name)
        held[name] = stack.view(-1, *specs[0].shape) if whole else stack
    return held
