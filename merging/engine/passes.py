"""The walks over a plan's tensors: whole-model rounds, merging, and the finish of methods that have one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from merging.engine.events import Event, Moved, PassStarted, RunStarted, TensorDone, Warned
from merging.engine.execute import CopyWork, Execution
from merging.engine.finite import are_finite, non_finite, problems
from merging.engine.ledger import Row
from merging.engine.merge_work import MergeWork
from merging.engine.outbox import Outbox
from merging.engine.pools import Pool, Work
from merging.engine.spool import Spool
from merging.engine.uses import Uses
from merging.errors import raise_all
from merging.lazy import Tensor, torch
from merging.methods.application import BLOCK, Application
from merging.methods.declare import find_method
from merging.methods.rounds import Rule, Sum
from merging.planning.choose import choose, fitting_workers, worker_bytes
from merging.planning.plan import Job, Plan

# Progress is reported once so many bytes have moved: a model of 100,000 tensors must not drown who listens.
REPORT_BYTES = 1 << 26


class Passes:
    """One run over a plan, writing to a target.

    A target that is an outbox says in which order tensors are wanted, and when they may begin; tensors that wait for
    nothing are then written together with those of the finish, file after file. `only` names the tensors that are
    wanted, all when None. `record` is called with the row of every finished tensor, and whether it is only spooled yet.
    """

    def __init__(
        self,
        plan: Plan,
        target: Any,
        workers: int | None = None,
        block: int = BLOCK,
        spool: Path | None = None,
        only: Collection[str] | None = None,
        record: Callable[[Row, bool], None] = lambda *_: None,
    ):
        self.plan = plan
        self._only = only
        self._record = record
        self.rows: dict[str, Row] = {}
        choices = [choose(job, plan.models) for job in plan.jobs]
        self._choices = {job.spec.name: choice for job, choice in zip(plan.jobs, choices, strict=True)}
        fitting = fitting_workers(choices, plan.memory, workers)
        # What the workers' own blocks leave is for whole tensors.
        self._pool = Pool(fitting, plan.memory - fitting * worker_bytes(choices), plan.device)
        self._outbox = target if isinstance(target, Outbox) else None
        if self._outbox:
            self._outbox.attach(self._pool.stop, lambda: self._pool.emit(Moved(0, 0)))
        self._spool = Spool(plan, spool)
        self._execution = Execution(
            models=plan.models,
            target=target,
            stop=self._pool.stop,
            moved=self._count,
            device=plan.device,
            block=block,
            spool=self._spool,
            seed=plan.seed,
        )
        self._uses = Uses(plan.models, self._pool.stop)
        self._spooled: dict[str, Row] = {}
        self._counting = Lock()
        self._moved = [0, 0]

    def close(self) -> None:
        """Remove what was spooled outside an output folder."""
        self._spool.close()

    def keep(self, merged: Mapping[str, Row], spooled: Mapping[str, Row]) -> None:
        """Take over what an earlier run finished: merged tensors that are known to be good, spooled ones that are."""
        self.rows |= merged
        self._spooled = self._spool.keep(spooled)

    def events(self) -> Generator[Event, None, dict[str, Row]]:
        """Run all passes; returns the ledger's rows by output tensor."""
        pending = [
            job
            for job in self.plan.jobs
            if job.spec.name not in self.rows and (self._only is None or job.spec.name in self._only)
        ]
        yield self._started(pending)
        yield from [Warned(text) for text in self.plan.warnings]
        measured = yield from self._measure(pending)
        yield from self._merge(pending, measured)
        yield from self._finish(pending, measured)
        yield self._flushed()
        return self.rows

    def _started(self, pending: Sequence[Job]) -> RunStarted:
        kept = [job.spec.nbytes for job in self.plan.jobs if job.spec.name in self.rows]
        chosen = [self._choices[job.spec.name] for job in pending]
        read = sum(choice.read_bytes for choice in chosen)
        written = sum(choice.written_bytes + choice.spooled_bytes for choice in chosen)
        return RunStarted(len(self.plan.jobs), read, written, len(kept), sum(kept))

    def _measure(self, pending: Sequence[Job]) -> Generator[Event, None, dict[str, dict[str, Tensor]]]:
        """Whole-model statistics of every method that wants them, by output tensor."""
        wanted: dict[str, list[Job]] = defaultdict(list)
        for job in self.plan.jobs:
            if job.rule == "merge" and find_method(job.method).needs.scope == "model":
                wanted[_group(job)].append(job)
        needed = {_group(job) for job in pending if job.rule == "merge"}
        measured: dict[str, dict[str, Tensor]] = {}
        for group, jobs in wanted.items():
            if group in needed:
                held = yield from self._measure_group([job for job in jobs if job.counted])
                measured |= {job.spec.name: held for job in jobs}
        return measured

    def _measure_group(self, jobs: Sequence[Job]) -> Generator[Event, None, dict[str, Tensor]]:
        held: dict[str, Tensor] = {}
        use = Application(find_method(jobs[0].method), jobs[0].parameters, len(jobs[0].operands))
        for step in use.readings(held):
            yield PassStarted("measure", len(jobs))
            before = dict(held)
            works = (MergeWork(self._execution, job).measuring(step, before) for job in jobs)
            self._uses.begin(jobs)
            held[step.__name__] = yield from self._summed(step, works, jobs)
        if not are_finite(held):
            yield from self._require_finite(jobs)
        return held

    def _require_finite(self, jobs: Sequence[Job]) -> Iterator[Event]:
        """Refuse models whose own entries keep sums from being finite, before any tensor is written."""
        yield PassStarted("measure", len(jobs))
        works = (MergeWork(self._execution, job).measuring(non_finite, {}) for job in jobs)
        self._uses.begin(jobs)
        found: dict[int, Tensor] = {}
        for position, result in self._pool.drive(works):
            if position is None:
                yield result
                continue
            self._uses.done(jobs[position])
            if bool(result.any()):
                found[position] = result
        raise_all(problems(self._execution, [(jobs[position], found[position]) for position in sorted(found)]))

    def _summed(self, step: Rule, works: Iterable[Work], jobs: Sequence[Job]) -> Generator[Event, None, Tensor]:
        """The sum of what works return, in the order of their jobs, holding back only what came out of turn."""
        early: dict[int, Tensor] = {}
        held = Sum(step)
        turn = 0
        for position, result in self._pool.drive(works):
            if position is None:
                yield result
                continue
            self._uses.done(jobs[position])
            early[position] = result
            while turn in early:
                held.add(early.pop(turn))
                turn += 1
        return held.total()

    def _merge(self, pending: Sequence[Job], measured: Mapping[str, dict[str, Tensor]]) -> Iterator[Event]:
        jobs = [job for job in self._with_finish(pending) if job.spec.name not in self._spooled]
        jobs = self._ordered([job for job in jobs if not self._is_late(job)])
        yield PassStarted("merge", len(jobs))
        works = (self._work(job, measured.get(job.spec.name)) for job in jobs)
        self._uses.begin(jobs)
        for position, result in self._pool.drive(works, self._admission(jobs)):
            if position is None:
                yield result
                continue
            job = jobs[position]
            self._uses.done(job)
            if _has_finish(job):
                self._spooled[job.spec.name] = result
                self._record(result, True)
            else:
                yield self._done(job, result)

    def _with_finish(self, pending: Sequence[Job]) -> list[Job]:
        """What is pending, and all that a global finish must have seen: every tensor of its method, once."""
        groups = {_group(job) for job in pending if _has_finish(job)}
        names = {job.spec.name for job in pending}
        return [job for job in self.plan.jobs if job.spec.name in names or (_has_finish(job) and _group(job) in groups)]

    def _work(self, job: Job, measured: Mapping[str, Tensor] | None) -> Work:
        if job.rule == "copy":
            return CopyWork(self._execution, job).steps()
        return MergeWork(self._execution, job).steps(measured)

    def _finish(self, pending: Sequence[Job], measured: Mapping[str, dict[str, Tensor]]) -> Iterator[Event]:
        jobs = self._ordered([job for job in pending if job.spec.name in self._spooled or self._is_late(job)])
        if not jobs:
            return
        yield PassStarted("finish", len(jobs))
        totals: dict[str, Tensor] = {}
        for job in self.plan.jobs:
            if job.spec.name in self._spooled and job.counted:
                tally = torch.tensor(self._spooled[job.spec.name]["tally"], dtype=torch.float64)
                totals[_group(job)] = totals[_group(job)] + tally if _group(job) in totals else tally
        spooled = self._spool.reopen()

        def work(job: Job) -> Work:
            if self._is_late(job):
                return self._work(job, measured.get(job.spec.name))
            row = self._spooled[job.spec.name]
            total = totals[_group(job)]
            return MergeWork(self._execution, job).finishing(spooled, total, measured.get(job.spec.name, {}), row)

        self._uses.begin(jobs)
        for position, result in self._pool.drive(map(work, jobs), self._admission(jobs)):
            if position is not None:
                self._uses.done(jobs[position])
            yield result if position is None else self._done(jobs[position], result)

    def _is_late(self, job: Job) -> bool:
        """Whether a tensor waits for the finish of others: files sent in turn have no gaps to be filled later."""
        return self._outbox is not None and self._spool.is_used and not _has_finish(job)

    def _ordered(self, jobs: list[Job]) -> list[Job]:
        outbox = self._outbox
        return sorted(jobs, key=lambda job: outbox.turn(job.spec.name)) if outbox else jobs

    def _admission(self, jobs: Sequence[Job]) -> Callable[[int], bool] | None:
        """Which of the jobs may begin by now, by position; spooled ones always."""
        outbox, spooled = self._outbox, [_has_finish(job) and job.spec.name not in self._spooled for job in jobs]
        if outbox is None:
            return None
        return lambda i: i >= len(jobs) or spooled[i] or outbox.admits(jobs[i].spec.name)

    def _done(self, job: Job, row: Row) -> Event:
        self.rows[job.spec.name] = row
        self._record(row, False)
        return TensorDone(job.spec.name, job.spec.nbytes, row["seconds"], row["non_finite"])

    def _count(self, read_bytes: int, written_bytes: int) -> None:
        with self._counting:
            self._moved[0] += read_bytes
            self._moved[1] += written_bytes
            if sum(self._moved) >= REPORT_BYTES:
                self._pool.emit(self._flushed())

    def _flushed(self) -> Moved:
        moved = Moved(*self._moved)
        self._moved = [0, 0]
        return moved


def _has_finish(job: Job) -> bool:
    return job.rule == "merge" and find_method(job.method).needs.finish is not None


def _group(job: Job) -> str:
    """Jobs that share whole-model sums: one method over the same models."""
    return repr((job.method, [each.model for each in job.operands]))
