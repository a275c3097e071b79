"""The output folder of a store: claimed, locked and resumed like that of a merge, sealed with a record of its own.

OUT/vector*.safetensors        the unified task vector, and copies of what the base model lacks
OUT/mask-1*.safetensors, …     the bits of each task
OUT/store.safetensors.index.json, config.json, tokenizer and other sidecars, merging-ledger.jsonl
OUT/store.json                 tasks, base model, scales and tensors; recipe, models and versions. Written last.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from merging.checkpoint.sink import PARTIAL, ShardSink, require_space, write_whole
from merging.checkpoint.tensors import TensorSpec
from merging.engine.execute import stored_digest
from merging.engine.folder import LEDGER, OutputFolder, recorded_files
from merging.engine.journal import Journal, stored_head
from merging.engine.ledger import Row
from merging.engine.store_plan import StorePlan
from merging.errors import CheckpointError, MergingError, OutputError, ResumeError, VerificationError
from merging.hub.names import is_explicit
from merging.lazy import Tensor
from merging.planning.check import EXTRA_BYTES, STATE
from merging.store.bits import BITS
from merging.store.files import LocalFiles
from merging.store.record import INDEX, RECORD, StoreRecord, copy_name, mask_name, read_store_record, vector_name
from merging.store.tasks import TaskStore


class StoreFolder(OutputFolder):
    """One store and the journal of the run that fills it."""

    def __init__(self, folder: Path, store: StorePlan):
        super().__init__(folder, store.plan)
        self.store = store
        self.layout = store.layout
        headers = sha256(b"".join(file.header for file in self.layout.files)).hexdigest()
        self.head = {"plan": store.plan.hash, "store": headers}
        self.journal = Journal(self._state / "journal.jsonl", self.head)

    def refuse(self, overwrite: bool) -> None:
        """Raise OutputError where the folder holds anything but this very store, unfinished, or its own base model."""
        problem = self._in_the_way(overwrite)
        if problem:
            raise problem
        # Without `overwrite` that is what a run that goes on had begun to replace.
        self._replaced = recorded_files(self.folder)

    def problems(self, overwrite: bool = False) -> list[MergingError]:
        """Everything that would keep this store from being written here."""
        found = self._in_the_way(overwrite)
        written = sum(path.stat().st_blocks * 512 for path in self.folder.glob("*" + PARTIAL))
        try:
            require_space(self.folder, max(0, self.layout.nbytes + EXTRA_BYTES - written))
        except OutputError as full:
            return [found, full] if found else [full]
        return [found] if found else []

    def _in_the_way(self, overwrite: bool) -> MergingError | None:
        if not overwrite:
            return occupied(self.folder, self.head)
        home = self.folder.resolve()
        parts = [part for part in self.store.record.base.split("+") if not is_explicit(part)]
        if any(home in ((place := (self.folder / part).resolve()), place.parent) for part in parts):
            return OutputError(
                f"{self.folder} holds the base model, which must stay where it is: tasks come back on it",
                must_be="another folder than that of the base model",
                fix="name another one",
            )
        return not_a_folder(self.folder)

    def held(self, sink: ShardSink) -> dict[str, Row]:
        """What an earlier run finished, as far as the files really hold it."""
        specs = self.layout.specs
        return {
            name: row
            for name, row in self.journal.merged.items()
            if all(_holds(sink.read_back, specs.get(part), span, digest) for part, span, digest in _parts(row))
        }

    def seal(self, sink: ShardSink, rows: Mapping[str, Row]) -> list[Path]:
        """Make the store whole: weights, config, sidecars, ledger, index, and last the record."""
        # All of the new one is in `.partial` files. The record of an earlier store goes last of its files and before
        # the first new one has its name, so that no record ever stands beside files of another store.
        for path in self._replaced:
            if path.name not in self.layout.names:
                path.unlink(missing_ok=True)
        files = sink.seal()
        _, about = self._complete(rows, [path.name for path in files])
        write_whole(self.folder / INDEX, self.store.layout.tensor_index())
        write_whole(self.folder / RECORD, record_text({**about, **filled(self.store.record, rows).data()}))
        self.close()
        shutil.rmtree(self._state)
        return files


def record_text(data: Mapping[str, Any]) -> bytes:
    """store.json, for people too: one tensor a line."""
    head = json.dumps({key: value for key, value in data.items() if key != "tensors"}, indent=2)
    tensors = ",\n    ".join(json.dumps(each, ensure_ascii=False) for each in data["tensors"])
    return f'{head.removesuffix("}").rstrip()},\n  "tensors": [\n    {tensors}\n  ]\n}}\n'.encode()


def filled(record: StoreRecord, rows: Mapping[str, Row]) -> StoreRecord:
    """The record with the scales that were measured, each list of them once."""
    places: dict[tuple[float, ...], int] = {}
    tensors = []
    for kept in record.tensors:
        if kept.way == "vector":
            scales = tuple(rows[kept.spec.name]["scales"])
            kept = replace(kept, scales=places.setdefault(scales, len(places)))
        tensors.append(kept)
    return replace(record, tensors=tuple(tensors), scales=tuple(places))


def occupied(folder: Path, head: Mapping[str, str] | None = None) -> MergingError | None:
    """Why a store cannot be written into a folder; None where it is new or empty, or holds the one that began so."""
    if not folder.exists():
        return None
    if problem := not_a_folder(folder):
        return problem
    begun = stored_head(folder / STATE / "journal.jsonl")
    names = sorted(path.name for path in folder.iterdir() if path.name != STATE)
    if begun is not None and head is not None and begun != head:
        return ResumeError(
            f"{folder} holds an unfinished run of another recipe, of other models or in other shards",
            must_be="a new or empty folder, or the one this store began in",
            fix="name another folder, or pass --overwrite to give that run up",
        )
    if begun is not None or not names:
        return None
    what = f"{folder} is not empty"
    with suppress(CheckpointError):
        what = f"{folder} already holds a store of {', '.join(read_store_record(LocalFiles(folder)).tasks)}"
    return OutputError(
        what,
        where=", ".join(names[:5]),
        must_be="a new or empty folder",
        fix="name another folder, or pass --overwrite",
    )


def not_a_folder(folder: Path) -> MergingError | None:
    """What is wrong with an output that is a file."""
    if not folder.exists() or folder.is_dir():
        return None
    return OutputError(f"{folder} is a file", must_be="a new or empty folder", fix="name another one")


def verify_store(folder: Path | str) -> int:
    """Compare every stored tensor with the digest in the ledger; returns how many there are.

    Raises VerificationError naming those whose bytes are not what was written, CheckpointError where the store is none.
    """
    held = TaskStore(folder).held()
    parts = ledger_parts(folder)
    specs = held.specs
    known = {name for name, _, _ in parts}
    bad = [name for name in specs if name not in known]
    bad += [name for name, span, digest in parts if not _holds(held.read, specs.get(name), span, digest)]
    if bad:
        shown = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise VerificationError(
            f"{len(bad)} tensors of {folder} are not what was written", where=shown, fix="compress the models again"
        )
    return len(parts)


def ledger_parts(folder: Path | str) -> list[tuple[str, int, str]]:
    """Name, span and digest of everything that the ledger says is stored. Raises VerificationError."""
    try:
        lines = (Path(folder) / LEDGER).read_text(encoding="utf-8").splitlines()
        return [part for row in map(json.loads, lines) for part in _parts(row)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VerificationError(f"the ledger of {folder} cannot be read: {error}", must_be=LEDGER) from None


def _parts(row: Row) -> Iterator[tuple[str, int, str]]:
    """Name, span and digest of everything that is stored of a tensor."""
    name, span = row["tensor"], row["span"]
    if row["rule"] == "copy":
        yield copy_name(name), span, row["digest"]
        return
    yield vector_name(name), span, row["digest"]
    for number, digest in enumerate(row["mask_digests"], 1):
        yield mask_name(number, name), span // BITS, digest


def _holds(read: Callable[[str, int, int], Tensor], spec: TensorSpec | None, span: int, digest: str) -> bool:
    return spec is not None and stored_digest(read, spec, span) == digest
