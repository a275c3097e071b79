"""Merged task vectors in float32 on disk, between a merge pass and the global finish that needs its sums."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from merging.checkpoint.layout import lay_out
from merging.checkpoint.shards import open_checkpoint
from merging.checkpoint.sink import ShardSink, require_space
from merging.checkpoint.tensors import Checkpoint
from merging.engine.execute import stored_digest
from merging.engine.ledger import Row
from merging.lazy import Tensor
from merging.methods.declare import find_method
from merging.planning.plan import Plan

SPOOL_SHARD_BYTES = 5_000_000_000


class Spool:
    """A sink that becomes a checkpoint; nothing is written unless the plan has a method with a global finish."""

    def __init__(self, plan: Plan, folder: Path | None):
        self._jobs = [job for job in plan.jobs if job.rule == "merge" and find_method(job.method).needs.finish]
        self._folder = folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._sink: ShardSink | None = None
        if self._jobs:
            self._open()

    @property
    def is_used(self) -> bool:
        """Whether anything waits here for a finish."""
        return bool(self._jobs)

    def _open(self) -> None:
        if self._folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="merging-spool-")
            self._folder = Path(self._temporary.name)
        self._folder.mkdir(parents=True, exist_ok=True)
        layout = lay_out([replace(job.spec, dtype="F32") for job in self._jobs], SPOOL_SHARD_BYTES, {"format": "pt"})
        held = sum(path.stat().st_size for path in self._folder.iterdir())
        require_space(self._folder, max(0, sum(file.size for file in layout.files) - held))
        self._sink = ShardSink(self._folder, layout)

    def write(self, name: str, start: int, block: Tensor) -> None:
        """Merged entries from `start` on, float32."""
        assert self._sink is not None
        self._sink.write(name, start, block)

    def settle(self, name: str) -> None:
        """Return once everything given for a tensor is written."""
        assert self._sink is not None
        self._sink.settle(name)

    def keep(self, rows: Mapping[str, Row]) -> dict[str, Row]:
        """The rows whose tensors the files really hold."""
        kept: dict[str, Row] = {}
        for job in self._jobs:
            row = rows.get(job.spec.name)
            assert self._sink is not None
            spec = replace(job.spec, dtype="F32")
            if row and stored_digest(self._sink.read_back, spec, row["span"]) == row["digest"]:
                kept[job.spec.name] = row
        return kept

    def reopen(self) -> Checkpoint:
        """What was written, as a checkpoint."""
        assert self._sink is not None and self._folder is not None
        self._sink.seal()
        return open_checkpoint(self._folder)

    def close(self) -> None:
        """Remove temporary files; a folder that was given stays, for the run to go on."""
        if self._temporary is not None:
            self._temporary.cleanup()
