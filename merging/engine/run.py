"""Run a plan: passes over the tensors, a journal, a sealed output; everything that happens comes out as events."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

from merging.checkpoint.sink import ShardSink, Sink
from merging.engine.delivery import Delivery
from merging.engine.events import Delivering, Event, Sealed, Warned
from merging.engine.execute import stored_digest
from merging.engine.folder import OutputFolder
from merging.engine.lane import require_device
from merging.engine.ledger import Row, refuse_silent
from merging.engine.outbox import Outbox
from merging.engine.passes import Passes
from merging.engine.provenance import lineage
from merging.errors import MergingError, raise_all
from merging.methods.application import BLOCK
from merging.planning.check import STATE
from merging.planning.plan import Plan


def run(
    plan: Plan,
    out: Path | str | Sink,
    *,
    resume: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    allow_unused: bool = False,
    block: int = BLOCK,
    deliver: Delivery | None = None,
) -> Iterator[Event]:
    """Carry out a plan into a folder or a sink; iterate to the end, the last event is `Sealed`.

    An interrupted run into a folder goes on where it stopped when called again with the same plan. `block` entries are
    computed at once; it changes no bit. `allow_unused` accepts inputs without effect. With `deliver` the weights go
    there while they are made and are shown at the very end; the folder holds everything else.

    Raises OutputError (folder, space, memory), SilentMergeError, CheckpointError (unreadable input), HubError.
    """
    require_device(plan.device)
    if not isinstance(out, Path | str):
        if deliver is not None:
            raise ValueError("weights are delivered from a folder, which remembers what has arrived")
        yield from _into_sink(plan, out, workers, allow_unused, block)
        return
    filling = _Filling(plan, Path(out), workers, allow_unused, block)
    yield from filling.locally(resume, overwrite) if deliver is None else filling.sending(resume, overwrite, deliver)


def _into_sink(plan: Plan, sink: Sink, workers: int | None, allow_unused: bool, block: int) -> Iterator[Event]:
    began = time.perf_counter()
    passes = Passes(plan, sink, workers, block)
    try:
        rows = yield from passes.events()
    finally:
        passes.close()
    if not allow_unused:
        raise_all(refuse_silent(plan, rows.values()))
    yield Sealed(tuple(sink.seal()), time.perf_counter() - began)


class _Filling:
    """One run into an output folder."""

    def __init__(self, plan: Plan, out: Path, workers: int | None, allow_unused: bool, block: int):
        self._plan = plan
        self._folder = OutputFolder(out, plan)
        self._spool = out / STATE / "spool"
        self._workers = workers
        self._allow_unused = allow_unused
        self._block = block
        self._began = time.perf_counter()

    def locally(self, resume: bool, overwrite: bool) -> Iterator[Event]:
        """The weights stay in the folder."""
        sink = self._folder.open(resume, overwrite)
        try:
            journal = self._folder.journal
            passes = Passes(self._plan, sink, self._workers, self._block, self._spool, record=journal.add)
            passes.keep(_held(self._plan, journal.merged, sink), journal.spooled)
            rows = yield from passes.events()
            self._judge(rows)
            files = self._folder.seal(sink, rows)
            yield Sealed(tuple(files), time.perf_counter() - self._began)
        finally:
            self._folder.close()

    def sending(self, resume: bool, overwrite: bool, deliver: Delivery) -> Iterator[Event]:
        """The weights are sent on; where streaming them fails, the rest goes by way of the disk."""
        self._folder.refuse(overwrite)
        notices = deliver.begin(self._folder.layout.names, lineage(self._plan))
        yield from map(Warned, notices)
        outbox = self._folder.open_outbox(resume, overwrite, deliver)
        try:
            try:
                rows = yield from self._sent(outbox)
            except MergingError as error:
                if not (outbox.failed and outbox.way == "streamed"):
                    raise
                yield Warned(f"{error.what}; going on with whole files, by way of the disk")
                outbox.close()
                outbox = self._folder.begin_outbox(deliver, streamed=False)
                rows = yield from self._sent(outbox)
            files, published = self._folder.publish(outbox, rows)
            yield Sealed(tuple(files), time.perf_counter() - self._began, published)
        finally:
            outbox.close()
            self._folder.close()

    def _sent(self, outbox: Outbox) -> Generator[Event, None, dict[str, Row]]:
        """Merge and send everything; nothing is shown yet."""
        journal = self._folder.journal

        def record(row: Row, spooled: bool) -> None:
            journal.add(row, spooled)
            if not spooled:
                outbox.recorded(row["tensor"])

        yield Delivering(outbox.delivery.place, outbox.way, outbox.layout.nbytes, outbox.kept_bytes)
        kept = outbox.keep(journal.merged)
        passes = Passes(self._plan, outbox, self._workers, self._block, self._spool, record=record)
        passes.keep(kept, journal.spooled)
        rows = yield from _together(passes, outbox)
        yield from outbox.finish()
        self._judge(rows)
        return rows

    def _judge(self, rows: Mapping[str, Row]) -> None:
        if not self._allow_unused:
            raise_all(refuse_silent(self._plan, rows.values()))


def _together(passes: Passes, outbox: Outbox) -> Generator[Event, None, dict[str, Row]]:
    """The events of a run, and between them those of its outbox."""
    events = passes.events()
    try:
        while True:
            yield next(events)
            yield from outbox.events()
    except StopIteration as end:
        rows: dict[str, Row] = end.value
        return rows
    finally:
        events.close()


def _held(plan: Plan, rows: Mapping[str, Row], sink: ShardSink) -> dict[str, Row]:
    """What an earlier run finished, as far as the files really hold it."""
    found = {}
    for job in plan.jobs:
        row = rows.get(job.spec.name)
        if row and stored_digest(sink.read_back, job.spec, row["span"]) == row["digest"]:
            found[job.spec.name] = row
    return found
