"""Merging one tensor: its measuring rounds, then the linear pass, blocks of entries or rows, the whole, or a fold."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from merging.checkpoint.bytes import entries_memory
from merging.checkpoint.tensors import Checkpoint, torch_dtype
from merging.engine.execute import (
    SPAN,
    Execution,
    closed,
    digest,
    hasher,
    settling,
    spans_of,
)
from merging.engine.lane import Lane
from merging.engine.ledger import Account, Row, row, total
from merging.engine.measuring import Measuring
from merging.engine.operands import load_companions, load_stack
from merging.engine.pools import Task, Work
from merging.lazy import Tensor, torch
from merging.methods.application import BLOCK, anchor_scale, padded
from merging.methods.layout import by_matrix
from merging.planning.choose import FLOAT32_BYTES, choose
from merging.planning.plan import Job

Blockwise = Callable[[Mapping[str, Tensor], Account, int, int, Lane], tuple[Tensor, Tensor | None, list[Tensor]]]


class MergeWork(Measuring):
    """A tensor merged by a method."""

    def __init__(self, run: Execution, job: Job):
        super().__init__(run, job)
        self.stored = torch_dtype(job.spec.dtype)
        # Where the largest finite number is below float32's, the last rounding can overflow.
        self.narrow = job.spec.dtype == "F16" or job.spec.dtype.startswith("F8")
        self.spooled_width = FLOAT32_BYTES + (self._bytes(job.base) if job.base else 0)

    def steps(self, measured: Mapping[str, Tensor] | None = None) -> Work:
        """All rounds not yet taken over the whole model, then the merge; returns the ledger row."""
        if measured is None:
            measured = {}
            for step in self.use.readings(measured):
                measured[step.__name__] = yield from self.measuring(step, dict(measured))
        coefficients = self.use.coefficients(measured) if self.reach == "span" else None
        merge: Callable[[int, int, Lane], tuple[Account, Tensor | None]]
        if coefficients is not None:
            merge = partial(self._linear_span, coefficients, measured)
        elif self.needs.order == "sequential":
            merge = partial(self._block_span, self._folded, self._on_device(measured))
        else:
            merge = partial(self._block_span, self._merged, self._on_device(measured))
        span = self.cuts.span
        held = choose(self.job, self.run.models).held_bytes
        results = yield [Task(partial(merge, a, b), held) for a, b in spans_of(self.job.spec.entries, span)]
        account = total([result[0] for result in results])
        listed = coefficients.tolist() if coefficients is not None else None
        target = self.run.spool if self.needs.finish and self.run.spool else self.run.target
        yield [settling(target, self.job.spec.name)]
        made = row(self.job, account, digest(account), span, listed)
        if self.needs.finish:
            made["tally"] = sum((result[1] for result in results[1:]), start=results[0][1]).tolist()
        return made

    def finishing(self, spooled: Checkpoint, total_: Tensor, measured: Mapping[str, Tensor], made: Row) -> Work:
        """The global correction of what was spooled; returns the ledger row."""
        finish = partial(self._finish_span, spooled, total_, self._on_device(measured))
        accounts = yield [Task(partial(finish, a, b)) for a, b in spans_of(self.job.spec.entries)]
        account = total(accounts)
        yield [settling(self.run.target, self.job.spec.name)]
        return {
            **{key: value for key, value in made.items() if key != "tally"},
            "unfinished_norm": made["merged_norm"],
            "merged_norm": account.merged_square**0.5,
            "non_finite": account.non_finite,
            "digest": digest(account),
            "span": SPAN,
            "operands": [{**entry, "same": same} for entry, same in zip(made["operands"], account.same, strict=True)],
        }

    def _linear_span(
        self, coefficients: Tensor, measured: Mapping[str, Tensor], start: int, stop: int, lane: Lane
    ) -> tuple[Account, Tensor | None]:
        """anchor + sum c_i (x_i - anchor), one operand at a time."""
        began = time.perf_counter()
        account = Account(len(self.job.operands))
        hashed = hasher()
        first = 0 if self.job.base else 1
        weights = [float(c) for c in coefficients]
        scale = 1.0 if self.job.base else anchor_scale(coefficients)
        tally = self._no_tally(measured)
        for a, b in self._ranges(start, stop, self.cuts.step):
            room = padded(b - a)
            anchor, update, x = (lane.scratch(role, room) for role in ("base", "update", "operand"))
            raw = self.run.read(self.job.sources[0], a, b)
            lane.load(raw, anchor, "base")
            stored = [raw] if first else []
            update.zero_()
            for i in range(first, len(self.job.operands)):
                raw = self.run.read(self.job.operands[i], a, b)
                lane.load(raw, x, "operand")
                x.sub_(anchor)
                account.add_operand(i, x)
                update.add_(x, alpha=weights[i])
                stored.append(raw)
            account.add_merged(update)
            if tally is not None:
                tally += self.use.tally(update[: b - a], measured)
                self._spool(update, a, b, hashed)
                continue
            if scale != 1.0:
                anchor.mul_(scale)
            self._put(account, hashed, lane, update.add_(anchor), a, b, stored)
        return closed(account, hashed, began), tally

    def _no_tally(self, measured: Mapping[str, Tensor]) -> Tensor | None:
        """What a global finish tallies of no entries; None without a finish."""
        return self.use.tally(torch.zeros(0, device=self.run.device), measured) if self.needs.finish else None

    def _block_span(
        self, merge: Blockwise, measured: Mapping[str, Tensor], start: int, stop: int, lane: Lane
    ) -> tuple[Account, Tensor | None]:
        """Blocks through the method; with a global finish, what it made goes to the spool and is tallied."""
        began = time.perf_counter()
        account = Account(len(self.job.operands))
        hashed = hasher()
        tally = self._no_tally(measured)
        for a, b in self._ranges(start, stop, self.cuts.step):
            merged, base, stored = merge(measured, account, a, b, lane)
            account.add_merged(merged[: b - a])
            if tally is not None:
                tally += self.use.tally(merged[: b - a], measured)
                self._spool(merged, a, b, hashed)
            else:
                block = merged if base is None else merged + base
                self._put(account, hashed, lane, block, a, b, stored)
        if self.cuts.step > BLOCK * 64:
            lane.release(("stack", "base"))
        return closed(account, hashed, began), tally

    def _merged(self, measured: Mapping[str, Tensor], account: Account, a: int, b: int, lane: Lane) -> Any:
        room, shape = self.cuts.room(b - a)
        x = lane.scratch("stack", len(self.job.operands), room)
        stored, base = load_stack(self.run, self.job, x, a, b, lane)
        whole = self.reach in ("matrix", "tensor")
        beside = load_companions(self.run, self.job, a, b, room, lane, whole=whole)
        if self.reach == "matrix":
            merge = partial(self.use.merge, measured=measured, start=a, companions=beside)
            merged = by_matrix(merge, self.job.spec.shape, self.job.layout, x)
        else:
            merged = self.use.merge(x.view(-1, *shape), measured, a, beside).reshape(room)
        for i in range(len(x)):
            seen = x[i, : b - a]
            account.add_operand(i, seen)
            account.shares[i] += float(torch.dot(seen, merged[: b - a]))
        return merged, base, stored

    def _folded(self, measured: Mapping[str, Tensor], account: Account, a: int, b: int, lane: Lane) -> Any:
        """One operand at a time into the state: memory does not grow with their number."""
        room, shape = self.cuts.room(b - a)
        base: Tensor | None = None
        if self.job.base:
            base = lane.scratch("base", room)
            lane.load(self.run.read(self.job.base, a, b), base, "base")
        state: Tensor | None = None
        for i, operand in enumerate(self.job.operands):
            x = lane.scratch("stack", room)
            lane.load(self.run.read(operand, a, b), x, "operand")
            if base is not None:
                x.sub_(base)
            account.add_operand(i, x[: b - a])
            account.shares[i] = account.squares[i]
            account.same[i] = False
            fold = partial(self.use.fold, position=i, measured=measured, start=a)
            if self.reach == "matrix":
                state = by_matrix(fold, self.job.spec.shape, self.job.layout, state, x.clone())
            else:
                state = fold(state, x.view(shape).clone())
        assert state is not None
        return state.reshape(room), base, []

    def _finish_span(
        self, spooled: Checkpoint, total_: Tensor, measured: Mapping[str, Tensor], start: int, stop: int, lane: Lane
    ) -> Account:
        began = time.perf_counter()
        account = Account(len(self.job.operands))
        hashed = hasher()
        for a, b in self._ranges(start, stop, self.run.block):
            merged, base = (lane.scratch(role, padded(b - a)) for role in ("stack", "base"))
            lane.load(spooled.read(self.job.spec.name, a, b), merged, "stack")
            merged = self.use.finish(merged, total_.to(self.run.device), measured)
            account.add_merged(merged)
            if self.job.base:
                lane.load(self.run.read(self.job.base, a, b), base, "base")
                merged = merged + base
            self._put(account, hashed, lane, merged, a, b, [], self.spooled_width)
        account.same = [False] * account.operands
        return closed(account, hashed, began)

    def _spool(self, merged: Tensor, a: int, b: int, hashed: Any) -> None:
        assert self.run.spool is not None
        kept = merged[: b - a].clone().cpu()
        self.run.spool.write(self.job.spec.name, a, kept)
        hashed.update(entries_memory(kept))
        self.run.moved((b - a) * self.width, kept.nbytes)

    def _put(
        self,
        account: Account,
        hashed: Any,
        lane: Lane,
        block: Tensor,
        a: int,
        b: int,
        raws: Sequence[Tensor],
        width: int | None = None,
    ) -> None:
        """Round once, compare with the inputs, hash, write; `width` bytes an entry were read for it."""
        stored = lane.store(block[: b - a], self.stored)
        account.add_output(block[: b - a], stored, self.narrow)
        for i, raw in enumerate(raws):
            account.compare(i, raw, stored)
        hashed.update(entries_memory(stored))
        self.run.target.write(self.job.spec.name, a, stored)
        self.run.moved((b - a) * (self.width if width is None else width), stored.nbytes)
