"""The life of an output folder: refused when it holds something, locked while it is written, sealed at the end.

OUT/model-….safetensors(.partial), index, config.json, tokenizer and other sidecars
OUT/merging.json            the record: recipe, models with fingerprints, plan, versions
OUT/merging-ledger.jsonl    one line per tensor: what it got
OUT/.merging/               journal and lock of a run that is not finished
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from merging.checkpoint.headers import shard_fault
from merging.checkpoint.layout import INDEX_NAME, Layout, lay_out
from merging.checkpoint.sidecars import copy_sidecars, write_config
from merging.checkpoint.sink import PARTIAL, ShardSink, require_space, write_whole
from merging.engine.delivery import Delivery
from merging.engine.journal import Journal, stored_head
from merging.engine.ledger import Row
from merging.engine.outbox import Outbox, still_there
from merging.engine.provenance import lineage, provenance, shareable
from merging.engine.streamed import StreamedShards
from merging.engine.ways import streams_well
from merging.engine.whole import WholeShards
from merging.errors import OutputError, ResumeError
from merging.planning.check import STATE
from merging.planning.plan import Plan
from merging.store.record import INDEX as STORE_INDEX
from merging.store.record import RECORD as STORE_RECORD

RECORD = "merging.json"
LEDGER = "merging-ledger.jsonl"
_WEIGHTS = (".safetensors", ".safetensors.index.json")


def lay_out_plan(plan: Plan) -> Layout:
    """The output's files; their headers carry recipe, models and versions."""
    origin = json.dumps(shareable(provenance(plan)), sort_keys=True)
    specs = [job.spec for job in plan.jobs]
    return lay_out(specs, plan.shard_bytes, {"format": "pt", "merging": origin})


class OutputFolder:
    """One output folder and the journal of the run that fills it."""

    def __init__(self, folder: Path, plan: Plan):
        self.folder = folder
        self.plan = plan
        self.layout = lay_out_plan(plan)
        self._state = folder / STATE
        headers = sha256(b"".join(file.header for file in self.layout.files)).hexdigest()
        self.head = {"plan": plan.hash, "layout": headers}
        self.journal = Journal(self._state / "journal.jsonl", self.head)
        self._lock: IO[str] | None = None
        self._replaced: list[Path] = []

    def open(self, resume: bool, overwrite: bool) -> ShardSink:
        """Claim the folder. Raises OutputError when it holds anything this run may not touch, or lacks space."""
        self.refuse(overwrite)
        self._claim(resume)
        self._begin(self.layout.nbytes)
        return ShardSink(self.folder, self.layout)

    def open_outbox(self, resume: bool, overwrite: bool, delivery: Delivery) -> Outbox:
        """Claim the folder for a run whose weights are sent on; `delivery` has begun. Raises OutputError."""
        self.refuse(overwrite)
        self._claim(resume)
        return self.begin_outbox(delivery, streamed=not delivery.keeps_weights)

    def begin_outbox(self, delivery: Delivery, streamed: bool) -> Outbox:
        """The outbox of a claimed folder: streamed where that is wanted and possible."""
        arrived = still_there(self.layout, delivery, self.journal)
        outbox: Outbox = WholeShards(self.folder, self.layout, delivery, self.journal, arrived)
        if streamed and streams_well(self.plan, self.layout, outbox.disk_bytes):
            stream = StreamedShards(self.layout, delivery, self.journal, arrived, self.plan.memory)
            if stream.can_stream():
                outbox = stream
                self._discard_shards()
        self._begin(outbox.disk_bytes)
        return outbox

    def _begin(self, nbytes: int) -> None:
        written = sum(path.stat().st_size for path in self.folder.glob("*" + PARTIAL))
        require_space(self.folder, max(0, nbytes - written))
        # The journal comes first: it is what tells partial files apart from something the user had.
        self.journal.begin()

    def seal(self, sink: ShardSink, rows: Mapping[str, Row]) -> list[Path]:
        """Make the output whole: weights, config, sidecars, ledger, and last the record."""
        files = sink.seal()
        _, record = self._complete(rows, [path.name for path in files])
        self._end(record, files)
        return files

    def publish(self, outbox: Outbox, rows: Mapping[str, Row]) -> tuple[list[Path], Mapping[str, Any]]:
        """Make the output whole and show it where its weights are; returns the weights that stayed, and where it is.

        The record says so here; where it is published it is that of a local merge, without paths of this machine.
        """
        delivery, index, weights = outbox.delivery, self.layout.index_json(), self.layout.names
        small, record = self._complete(rows, weights)
        small |= {RECORD: _json(shareable(record))} | ({INDEX_NAME: index} if index else {})
        cards = delivery.describe(self.folder, record)
        published = delivery.publish(outbox.arrived, {**small, **cards})
        for name, content in cards.items():
            if not os.path.lexists(self.folder / name):
                write_whole(self.folder / name, content)
        if index and delivery.keeps_weights:
            write_whole(self.folder / INDEX_NAME, index)
        files = [self.folder / name for name in weights] if delivery.keeps_weights else []
        self._end({**record, "published": published}, files)
        return files, published

    def _complete(self, rows: Mapping[str, Row], weights: Sequence[str]) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Write what stands beside the weights, but for the record; its contents by name, and the record."""
        ordered = [rows[job.spec.name] for job in self.plan.jobs]
        ledger = "".join(json.dumps(row) + "\n" for row in ordered).encode()
        written = [write_config(self.plan.config, self.folder)] if self.plan.config else []
        if self.plan.sidecars is not None:
            written += copy_sidecars(self.plan.models[self.plan.sidecars], self.folder)
        written.append(write_whole(self.folder / LEDGER, ledger))
        record = {
            **lineage(self.plan),
            "recipe_folder": self._recipe_folder(),
            "shard_bytes": self.plan.shard_bytes,
            "summary": _summary(ordered),
            "files": list(weights),
        }
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in written}, record

    def _end(self, record: Mapping[str, Any], files: Sequence[Path]) -> None:
        write_whole(self.folder / RECORD, _json(record))
        for path in self._replaced:
            if path not in (*files, self.folder / RECORD):
                path.unlink(missing_ok=True)
        self.close()
        shutil.rmtree(self._state)

    def _recipe_folder(self) -> str | None:
        """Where relative sources of the recipe are looked up, seen from the output."""
        if self.plan.recipe_file is None:
            return None
        return os.path.relpath(Path(self.plan.recipe_file).resolve().parent, self.folder.resolve())

    def close(self) -> None:
        """Let go of the folder; an unfinished run stays resumable."""
        self.journal.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def refuse(self, overwrite: bool) -> None:
        """Raise OutputError where the folder holds anything that this run may not touch; nothing is changed."""
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"{self.folder} is a file", must_be="a new or empty folder", fix="name another one")
        if self.folder.exists():
            self._refuse_occupied(overwrite)

    def _refuse_occupied(self, overwrite: bool) -> None:
        held = stored_head(self._state / "journal.jsonl")
        if overwrite:
            self._replaced = recorded_files(self.folder)
        if held == self.head:
            return
        others = [path for path in self.folder.iterdir() if path.name != STATE]
        if held is not None and not overwrite:
            raise ResumeError(
                f"{self.folder} holds an unfinished merge of another recipe, of other models or in other shards",
                must_be="a new or empty folder, or the one this merge began in",
                fix="name another folder, or pass --overwrite to give that merge up",
            )
        if others and not overwrite:
            same = held is None and _recorded_plan(self.folder) == self.plan.hash
            raise OutputError(
                f"{self.folder} already holds this very merge" if same else f"{self.folder} is not empty",
                where=", ".join(sorted(path.name for path in others)[:5]),
                must_be="a new or empty folder",
                fix="see `merging verify`" if same else "name another folder, or pass --overwrite",
            )

    def _claim(self, resume: bool) -> None:
        """Lock the folder and take over what an earlier run left in it, or remove it."""
        self._state.mkdir(parents=True, exist_ok=True)
        self._lock_out_others()
        if not (resume and self.journal.load()):
            for path in self.folder.glob("*" + PARTIAL):
                path.unlink()
            shutil.rmtree(self._state / "spool", ignore_errors=True)

    def _lock_out_others(self) -> None:
        """One run per folder; the lock goes with the process, however it ends."""
        self._lock = (self._state / "lock").open("w")
        try:
            import fcntl
        except ImportError:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise OutputError(
                f"another run is writing to {self.folder}", fix="wait for it, or name another folder"
            ) from None

    def _discard_shards(self) -> None:
        """Remove shards that this run made here, by way of the disk, before it was interrupted."""
        for file in self.layout.files:
            (self.folder / (file.name + PARTIAL)).unlink(missing_ok=True)
            if self.journal.merged:
                (self.folder / file.name).unlink(missing_ok=True)


def _json(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=2) + "\n").encode()


def _summary(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "tensors": len(rows),
        "merged": sum(row["rule"] == "merge" for row in rows),
        "copied": sum(row["rule"] == "copy" for row in rows),
        "non_finite": sum(row["non_finite"] for row in rows),
    }


def read_record(folder: Path, name: str = RECORD) -> dict[str, Any] | None:
    """The record of a finished merge, or another one; None where there is none to read."""
    try:
        record = json.loads((folder / name).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _recorded_plan(folder: Path) -> Any:
    return (read_record(folder) or {}).get("plan")


def recorded_files(folder: Path) -> list[Path]:
    """Weights, indices and at last records of an earlier merge or store, by its own record.

    A record can be written by anyone: it names no other files, and none outside.
    """
    found: list[Path] = []
    for record, beside in ((RECORD, ()), (STORE_RECORD, (STORE_INDEX,))):
        names = (read_record(folder, record) or {}).get("files")
        if isinstance(names, list):
            plain = [name for name in names if isinstance(name, str) and any(map(partial(_is_plain, name), _WEIGHTS))]
            found += [folder / name for name in (*plain, *beside, record)]
    return [path for path in found if path.is_file()]


def _is_plain(name: str, suffix: str) -> bool:
    return shard_fault(name, suffix) is None
