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
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from merging.checkpoint.layout import Layout, lay_out
from merging.checkpoint.sidecars import copy_sidecars, write_config
from merging.checkpoint.sink import ShardSink, require_space, write_whole
from merging.checkpoint.tensors import Checkpoint
from merging.engine.journal import Journal, stored_head
from merging.engine.ledger import Row
from merging.errors import OutputError, ResumeError
from merging.hub.client import Pinned
from merging.planning.check import STATE
from merging.planning.plan import Plan

RECORD = "merging.json"
LEDGER = "merging-ledger.jsonl"


def lay_out_plan(plan: Plan) -> Layout:
    """The output's files; their headers carry recipe, models and versions."""
    lineage = json.dumps(provenance(plan), sort_keys=True)
    specs = [job.spec for job in plan.jobs]
    return lay_out(specs, plan.shard_bytes, {"format": "pt", "merging": lineage})


def provenance(plan: Plan) -> dict[str, Any]:
    """Where an output comes from: enough to make it again, nothing that differs between two equal runs."""
    names = plan.sources or [model.location for model in plan.models]
    return {
        "merging": _version(),
        "plan": plan.hash,
        "recipe": plan.recipe,
        "models": [_origin(name, model) for name, model in zip(names, plan.models, strict=True)],
        "seed": plan.seed,
    }


def _origin(source: str, model: Checkpoint) -> dict[str, Any]:
    """A model by its name, its contents, and on the Hub by its commit."""
    named = [{"repository": each.repository, "commit": each.commit} for each in pinned(model)]
    return {"source": source, "fingerprint": model.fingerprint, **(named[0] if named else {})}


def parents(models: Iterable[Checkpoint]) -> list[dict[str, Any]]:
    """The repositories that models come from, each once: what they are, and which check their bytes have passed."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for model in models:
        for each in pinned(model):
            described = {
                "repository": each.repository,
                "revision": each.revision,
                "commit": each.commit,
                "license": each.license,
                "gated": each.gated,
                "private": each.private,
                "base_models": list(each.base_models),
                "integrity": getattr(model, "integrity", None),
            }
            found.setdefault((each.repository, each.commit), described)
    return list(found.values())


def pinned(model: Checkpoint) -> tuple[Pinned, ...]:
    """The repositories that a model comes from: none for a local one, two for an adapter on its base."""
    held: tuple[Pinned, ...] = getattr(model, "pinned", ())
    return held


def _version() -> str:
    try:
        return version("merging")
    except PackageNotFoundError:
        return "unknown"


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
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"{self.folder} is a file", must_be="a new or empty folder", fix="name another one")
        self._refuse_occupied(overwrite)
        self._state.mkdir(parents=True, exist_ok=True)
        self._claim()
        resumed = resume and self.journal.load()
        if not resumed:
            self._discard_partial()
        written = sum(path.stat().st_size for path in self.folder.glob("*.partial"))
        require_space(self.folder, max(0, sum(file.size for file in self.layout.files) - written))
        # The journal comes first: it is what tells partial files apart from something the user had.
        self.journal.begin()
        return ShardSink(self.folder, self.layout)

    def seal(self, sink: ShardSink, rows: Mapping[str, Row]) -> list[Path]:
        """Make the output whole: weights, config, sidecars, ledger, and last the record."""
        files = sink.seal()
        if self.plan.config:
            write_config(self.plan.config, self.folder)
        if self.plan.sidecars is not None:
            copy_sidecars(self.plan.models[self.plan.sidecars], self.folder)
        ordered = [rows[job.spec.name] for job in self.plan.jobs]
        write_whole(self.folder / LEDGER, "".join(json.dumps(row) + "\n" for row in ordered).encode())
        record = {
            **provenance(self.plan),
            "parents": parents(self.plan.models),
            "recipe_folder": self._recipe_folder(),
            "shard_bytes": self.plan.shard_bytes,
            "summary": _summary(ordered),
            "files": [path.name for path in files],
        }
        write_whole(self.folder / RECORD, (json.dumps(record, indent=2) + "\n").encode())
        for path in self._replaced:
            if path not in files:
                path.unlink(missing_ok=True)
        self.close()
        shutil.rmtree(self._state)
        return files

    def _recipe_folder(self) -> str | None:
        """Where relative sources of the recipe are looked up, seen from the output: no absolute path is published."""
        if self.plan.recipe_file is None:
            return None
        return os.path.relpath(Path(self.plan.recipe_file).resolve().parent, self.folder.resolve())

    def close(self) -> None:
        """Let go of the folder; an unfinished run stays resumable."""
        self.journal.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _refuse_occupied(self, overwrite: bool) -> None:
        if not self.folder.exists():
            return
        held = stored_head(self._state / "journal.jsonl")
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
        if overwrite:
            self._replaced = _recorded_files(self.folder)

    def _claim(self) -> None:
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

    def _discard_partial(self) -> None:
        for path in self.folder.glob("*.partial"):
            path.unlink()
        shutil.rmtree(self._state / "spool", ignore_errors=True)


def _summary(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "tensors": len(rows),
        "merged": sum(row["rule"] == "merge" for row in rows),
        "copied": sum(row["rule"] == "copy" for row in rows),
        "non_finite": sum(row["non_finite"] for row in rows),
    }


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished merge; None where there is none to read."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _recorded_plan(folder: Path) -> Any:
    return (read_record(folder) or {}).get("plan")


def _recorded_files(folder: Path) -> list[Path]:
    """Weights and index of an earlier merge, by its own record; plain names only."""
    names = (read_record(folder) or {}).get("files", [])
    return [folder / name for name in names if isinstance(name, str) and Path(name).name == name]
