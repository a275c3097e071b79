"""Measuring rounds over one tensor: in spans that are tasks of their own, or over a sample of its entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from merging.algebra.windows import sample_weight, sampled_ranges
from merging.checkpoint.tensors import DTYPES
from merging.engine.cuts import Cuts, Ranges, grouped
from merging.engine.execute import AHEAD, SPAN, Execution, spans_of
from merging.engine.lane import Lane
from merging.engine.operands import load_ranges, load_stack
from merging.engine.pools import Task, Work
from merging.lazy import Tensor, torch
from merging.methods.application import Application, axes_of, blocks
from merging.methods.declare import Method, find_method
from merging.methods.rounds import Rule, Sum, is_sampled
from merging.planning.plan import Job, Operand


class Measuring:
    """A tensor whose operands a method measures."""

    def __init__(self, run: Execution, job: Job):
        self.run = run
        self.job = job
        self.method: Method = find_method(job.method)
        self.needs = self.method.needs
        self.reach = self.method.reach(job.spec.shape, job.role, job.layout)
        self.cuts = Cuts(self.reach, job.spec.shape, run.block, run.device)
        models, axes = len(job.operands), axes_of(self.reach, job.spec.shape)
        self.use = Application(
            self.method, job.parameters, models, axes, run.device, self.reach, job.spec.name, run.seed
        )
        self.width = sum(map(self._bytes, job.sources))

    def _bytes(self, operand: Operand) -> int:
        """Bytes of one stored entry."""
        return DTYPES[self.run.models[operand.model].specs[operand.name].dtype].bits // 8

    def measuring(self, step: Rule, measured: Mapping[str, Tensor]) -> Work:
        """One round over the tensor: partial sums of spans, added in their order; returns the sum."""
        entries = self.job.spec.entries
        if is_sampled(step):
            taken = partial(self._measure_sample, step, measured, sample_weight(entries))
            tasks = [Task(partial(taken, ranges)) for ranges in grouped(sampled_ranges(entries), self.cuts.measured)]
        else:
            spans = spans_of(entries, self.cuts.span if self.reach == "row" else SPAN)
            tasks = [Task(partial(self._measure_span, step, measured, a, b)) for a, b in spans]
        held = Sum(step)
        for part in (yield tasks):
            held.add(part)
        return held.total()

    def _on_device(self, measured: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(self.run.device) for name, value in measured.items()}

    def _ranges(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
        """The blocks of a span, asking for the bytes ahead of them and reporting what moved."""
        asked = start
        for a, b in blocks(start, stop, size):
            if b > asked - AHEAD // 2 and asked < stop:
                self.run.ahead(self.job.sources, asked, min(asked + AHEAD, stop))
                asked += AHEAD
            yield a, b

    def _measure_span(self, step: Rule, measured: Mapping[str, Tensor], start: int, stop: int, lane: Lane) -> Tensor:
        held = Sum(step)
        measured = self._on_device(measured)
        for a, b in self._ranges(start, stop, self.cuts.measured):
            x = lane.scratch("stack", len(self.job.operands), b - a)
            load_stack(self.run, self.job, x, a, b, lane)
            held.add(self.use.measure(step, x.view(len(x), *self.cuts.seen(b - a)), measured, a))
            self.run.moved((b - a) * self.width, 0)
        if start == stop:
            nothing = torch.zeros(len(self.job.operands), *self.cuts.seen(0), device=self.run.device)
            held.add(self.use.measure(step, nothing, measured))
        return held.total().cpu()

    def _measure_sample(
        self, step: Rule, measured: Mapping[str, Tensor], stands_for: int, ranges: Ranges, lane: Lane
    ) -> Tensor:
        """One round over ranges side by side, each entry of which stands for several."""
        entries = sum(b - a for a, b in ranges)
        x = lane.scratch("stack", len(self.job.operands), entries)
        load_ranges(self.run, self.job, x, ranges, lane)
        self.run.moved(entries * self.width, 0)
        return self.use.measure(step, x, self._on_device(measured), 0, stands_for).cpu()
