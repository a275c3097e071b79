"""What every execution shares: reading ahead, blocks and spans, digests; and the simplest one, copying.

A job becomes a stepwise work for the pool: its measuring rounds, then its merge, each cut into spans that may run side
by side. Spans and measuring blocks have fixed sizes, so that neither sums of floats nor bytes depend on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event as Flag
from typing import Any, Protocol

import xxhash

from merging.checkpoint.bytes import entries_memory
from merging.checkpoint.tensors import Checkpoint, TensorSpec, torch_dtype
from merging.engine.lane import Lane
from merging.engine.ledger import Account, row, total
from merging.engine.pools import Stopped, Task, Work
from merging.errors import MergingError
from merging.lazy import Tensor, torch
from merging.methods.application import BLOCK, blocks
from merging.planning.plan import Job, Operand

# Entries per task: large enough that a task's fixed cost vanishes, small enough that a huge tensor is shared.
SPAN = 1 << 24
# Blocks on an accelerator are larger: launching a kernel costs more than the arithmetic of a cache block.
DEVICE_BLOCK = 1 << 22
# How far ahead of the computation files are asked for, in entries.
AHEAD = 1 << 21


class Target(Protocol):
    """Where merged entries go: a sink, or a comparison."""

    def write(self, name: str, start: int, block: Tensor) -> None:
        """Entries from `start` on, in the stored dtype; the block is given away."""
        ...

    def settle(self, name: str) -> None:
        """Return once everything given for a tensor is written."""
        ...


@dataclass(frozen=True)
class Execution:
    """What all works of a run share. `moved` is told bytes read and written."""

    models: Sequence[Checkpoint]
    target: Target
    stop: Flag
    moved: Callable[[int, int], None]
    device: str = "cpu"
    block: int = BLOCK
    spool: Target | None = None
    seed: int = 0

    def read(self, operand: Operand, start: int, stop: int) -> Tensor:
        """Stored entries of an operand. Raises Stopped when the run is asked to stop."""
        if self.stop.is_set():
            raise Stopped
        return self.models[operand.model].read(operand.name, start, stop)

    def ahead(self, operands: Sequence[Operand], start: int, stop: int) -> None:
        """Ask for entries that will be read soon, where the checkpoint can."""
        for operand in operands:
            advise = getattr(self.models[operand.model], "advise", None)
            if advise is not None:
                advise(operand.name, start, stop)


class CopyWork:
    """A tensor taken from one model; others are compared with it."""

    def __init__(self, run: Execution, job: Job):
        self.run = run
        self.job = job

    def steps(self) -> Work:
        """Copy span by span; returns the ledger row."""
        accounts = yield [Task(partial(self._span, a, b)) for a, b in spans_of(self.job.spec.length)]
        account = total(accounts)
        yield [settling(self.run.target, self.job.spec.name)]
        return row(self.job, account, digest(account), SPAN)

    def _span(self, start: int, stop: int, _: Lane) -> Account:
        began = time.perf_counter()
        account = Account(len(self.job.operands))
        stored_dtype = torch_dtype(self.job.spec.dtype)
        hashed = hasher()
        for a, b in blocks(start, stop, BLOCK * 4):
            raw = self.run.read(self.job.operands[0], a, b)
            stored = raw if raw.dtype == stored_dtype else raw.to(stored_dtype)
            if self.job.spec.is_float and raw.dtype != stored_dtype:
                account.non_finite += stored.numel() - int(torch.isfinite(stored.to(torch.float32)).sum())
            for i, other in enumerate(self.job.operands[1:], start=1):
                if account.same[i]:
                    account.compare(i, self.run.read(other, a, b), stored)
            self.run.target.write(self.job.spec.name, a, stored)
            hashed.update(entries_memory(stored))
            self.run.moved((b - a) * raw.element_size(), (b - a) * stored.element_size())
        return closed(account, hashed, began)


def settling(target: Target, name: str) -> Task:
    """The stage before a tensor is recorded: all of it has been written."""
    return Task(lambda _: target.settle(name))


def spans_of(entries: int, size: int = SPAN) -> list[tuple[int, int]]:
    """Ranges of `size` entries that are separate tasks; an empty tensor is one empty span."""
    return list(blocks(0, entries, size)) or [(0, 0)]


def hasher() -> Any:
    """A fresh hash of a span's stored bytes."""
    return xxhash.xxh3_128()


def closed(account: Account, hashed: Any, began: float) -> Account:
    """The account of a finished span, with its digest and the seconds since `began`."""
    account.digests = [hashed.digest()]
    account.seconds = time.perf_counter() - began
    return account


def digest(account: Account) -> str:
    """xxh3-128 over the digests of a tensor's spans."""
    return xxhash.xxh3_128(b"".join(account.digests)).hexdigest()


def stored_digest(read_back: Callable[[str, int, int], Tensor], spec: TensorSpec, span: int) -> str | None:
    """The digest of a tensor as a file holds it now, over spans of `span` entries; None where it cannot be read."""
    found = []
    try:
        for start, stop in spans_of(spec.length, span):
            hashed = hasher()
            for a, b in blocks(start, stop, BLOCK * 16):
                held = read_back(spec.name, a, b)
                hashed.update(entries_memory(held))
            found.append(hashed.digest())
    except MergingError:
        return None
    return str(xxhash.xxh3_128(b"".join(found)).hexdigest())
