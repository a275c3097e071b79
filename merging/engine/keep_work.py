"""Keeping the tasks of one tensor: its vector, a packed mask for each of them, and their scales."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

from merging.checkpoint.bytes import entries_memory
from merging.checkpoint.tensors import torch_dtype
from merging.engine.events import Event, RunStarted, TensorDone
from merging.engine.execute import SPAN, CopyWork, Execution, Target, closed, digest, hasher, spans_of
from merging.engine.lane import Lane
from merging.engine.ledger import Account, Row, row, total
from merging.engine.measuring import Measuring
from merging.engine.operands import load_stack
from merging.engine.passes import Passes
from merging.engine.pools import Task, Work
from merging.lazy import Bool, Float, Tensor, torch
from merging.methods.keeping import Keeping
from merging.planning.plan import Job
from merging.store.bits import BITS, pack, packed_bytes
from merging.store.record import copy_name, mask_name, vector_name


class StorePasses(Passes):
    """The passes that fill a store: measuring as for a merge, then vectors and masks instead of merged tensors."""

    def _work(self, job: Job, measured: Mapping[str, Tensor] | None) -> Work:
        if job.rule == "copy":
            return CopyWork(replace(self._execution, target=_Copies(self._execution.target)), job).steps()
        return KeepWork(self._execution, job).steps(measured)

    def _started(self, pending: Sequence[Job]) -> RunStarted:
        kept = [_written_bytes(job) for job in self.plan.jobs if job.spec.name in self.rows]
        return replace(super()._started(pending), written_bytes=sum(map(_written_bytes, pending)), kept_bytes=sum(kept))

    def _done(self, job: Job, row: Row) -> Event:
        super()._done(job, row)
        return TensorDone(job.spec.name, _written_bytes(job), row["seconds"], row["non_finite"])


def _written_bytes(job: Job) -> int:
    """A vector and its masks, or a copy."""
    return job.spec.nbytes + (len(job.operands) * packed_bytes(job.spec.entries) if job.rule == "merge" else 0)


class _Copies:
    """Where copies go: under names of their own."""

    def __init__(self, target: Target):
        self._target = target

    def write(self, name: str, start: int, block: Tensor) -> None:
        self._target.write(copy_name(name), start, block)

    def settle(self, name: str) -> None:
        self._target.settle(copy_name(name))


class KeepWork(Measuring):
    """A tensor of which all tasks are kept."""

    def __init__(self, run: Execution, job: Job):
        super().__init__(run, job)
        self.kept = Keeping(**{field.name: getattr(self.use, field.name) for field in fields(self.use)})
        self.stored = torch_dtype(job.spec.dtype)
        self.masks = [mask_name(i + 1, job.spec.name) for i in range(len(job.operands))]

    def steps(self, measured: Mapping[str, Tensor] | None = None) -> Work:
        """All rounds not yet taken over the whole model, then the parts; returns the ledger row."""
        if measured is None:
            measured = {}
            for step in self.use.readings(measured):
                measured[step.__name__] = yield from self.measuring(step, dict(measured))
        scales = self.kept.scales(measured).tolist()
        span = partial(self._span, self._on_device(measured))
        accounts = yield [Task(partial(span, a, b)) for a, b in spans_of(self.job.spec.entries)]
        yield [Task(self._settle)]
        return self._row(accounts, scales)

    def _settle(self, _: Lane) -> None:
        for name in (vector_name(self.job.spec.name), *self.masks):
            self.run.target.settle(name)

    def _row(self, accounts: Sequence[tuple[Account, ...]], scales: Sequence[float]) -> Row:
        """A merge's row, without the choice of a task; `share` of an operand is with the vector behind its own mask."""
        whole, *masks = [total(parts) for parts in zip(*accounts, strict=True)]
        made = row(self.job, whole, digest(whole), SPAN)
        made["parameters"].pop(self.kept.keeps.parameter)
        return {**made, "scales": list(scales), "mask_digests": [digest(mask) for mask in masks]}

    def _span(self, measured: Mapping[str, Tensor], start: int, stop: int, lane: Lane) -> tuple[Account, ...]:
        """Accounts of the vector and of every mask."""
        began = time.perf_counter()
        account = Account(len(self.job.operands), same=[False] * len(self.job.operands))
        hashes = [hasher() for _ in range(1 + len(self.masks))]
        for a, b in self._ranges(start, stop, self._step):
            x = lane.scratch("stack", len(self.job.operands), self.cuts.room(b - a)[0])
            load_stack(self.run, self.job, x, a, b, lane)
            vector, masks = self.kept.parts(x, measured, a)
            self._count(account, x[:, : b - a], vector[: b - a], masks[:, : b - a])
            self._put(account, hashes, lane, vector[: b - a], masks[:, : b - a], a)
        return tuple(closed(account if i == 0 else Account(0), hashed, began) for i, hashed in enumerate(hashes))

    @property
    def _step(self) -> int:
        """Entries handled at once: whole bytes of a mask."""
        return -(-self.cuts.step // BITS) * BITS

    def _count(
        self,
        account: Account,
        x: Float[Tensor, "models n"],
        vector: Float[Tensor, " n"],
        masks: Bool[Tensor, "models n"],
    ) -> None:
        account.add_merged(vector)
        for i, (task_vector, mask) in enumerate(zip(x, masks, strict=True)):
            account.add_operand(i, task_vector)
            account.shares[i] += float(torch.dot(task_vector, mask.to(torch.float32).mul_(vector)))

    def _put(
        self, account: Account, hashes: Sequence[Any], lane: Lane, vector: Tensor, masks: Tensor, start: int
    ) -> None:
        """Round the vector once, pack the masks, hash and write."""
        stored = lane.store(vector, self.stored)
        account.add_output(vector, stored, self.stored != torch.float32)
        blocks = [(vector_name(self.job.spec.name), start, stored)]
        blocks += [(name, start // BITS, pack(mask).cpu()) for name, mask in zip(self.masks, masks, strict=True)]
        for hashed, (name, first, block) in zip(hashes, blocks, strict=True):
            hashed.update(entries_memory(block))
            self.run.target.write(name, first, block)
        self.run.moved(vector.numel() * self.width, sum(block.nbytes for _, _, block in blocks))
