"""Telling checkpoints which tensors a pass will read, and which it has read: some hold files only as long as needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from threading import Event

from merging.checkpoint.tensors import Checkpoint
from merging.planning.plan import Job, Operand


class Uses:
    """What is still to be read in this pass, for checkpoints that want to know: those with `expect` and `finished`."""

    def __init__(self, models: Sequence[Checkpoint], stop: Event):
        self._stop = stop
        self._told = {i: model for i, model in enumerate(models) if hasattr(model, "expect")}

    def begin(self, jobs: Iterable[Job]) -> None:
        """A pass over these jobs begins."""
        names: dict[int, list[str]] = {i: [] for i in self._told}
        for operand in (each for job in jobs for each in self._read_for(job)):
            names[operand.model].append(operand.name)
        for i, model in self._told.items():
            model.expect(names[i], self._stop)

    def done(self, job: Job) -> None:
        """A job of this pass is finished."""
        for operand in self._read_for(job):
            self._told[operand.model].finished(operand.name)  # type: ignore[attr-defined]

    def _read_for(self, job: Job) -> Iterator[Operand]:
        if self._told:
            for operand in (*job.sources, *(each for several in job.companions.values() for each in several)):
                if operand.model in self._told:
                    yield operand
