"""Which files of a store of tasks are published: those its index names and those that belong to it, no others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from merging.engine.folder import LEDGER, read_record
from merging.engine.provenance import shareable
from merging.engine.store_folder import ledger_parts, record_text
from merging.errors import MergingError, OutputError, raise_all
from merging.publish.card_layers import PICTURE
from merging.publish.manifest import Manifest, files_beside, names_left_out, require_finished
from merging.publish.recorded import Entry, as_output, find_entry
from merging.recipe.stores import is_on_hub
from merging.store.record import INDEX, RECORD
from merging.store.tasks import TaskStore

# What of store.json tells where it comes from, and may name paths of this machine; all else is the store's own.
_OWN = ("format", "tasks", "base", "scales", "tensors")


def store_manifest(folder: Path | str) -> Manifest:
    """The files of a finished store that are published: weights and index, config, sidecars, record, ledger, our card.

    Nothing is hashed yet. Raises OutputError, or Problems with all that is wrong: a file is missing or not as record,
    index and header say, the ledger is not about these tensors, or others would not find the base model.
    """
    folder = Path(folder)
    record = read_record(folder, RECORD)
    require_finished(folder, record)
    assert record is not None
    problems: list[MergingError] = []
    tasks: tuple[str, ...] = ()
    weights: list[Entry] = []
    try:
        store = TaskStore(folder)
        tasks = store.tasks
        problems += _unshared(store, folder)
        held = set(store.held().specs)
        weights = [find_entry(folder, name) for name in (*store.shards(), INDEX)]
        problems += _unledgered(folder, held)
    except MergingError as error:
        problems += as_output(error)
    beside, more = files_beside(folder)
    raise_all(problems + more)
    entries = (*weights, *(entry for entry in beside if entry.path != PICTURE))
    left_out = names_left_out(folder, {entry.path for entry in entries})
    return Manifest(folder, entries, left_out, record, tasks).adding(RECORD, record_text(_shareable(record)))


def _shareable(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as others may read it. Names of tensors and tasks stay, for by them the store is read."""
    told = shareable({key: value for key, value in record.items() if key not in _OWN})
    return {**told, **{key: record[key] for key in _OWN}}


def _unshared(store: TaskStore, folder: Path) -> Iterator[MergingError]:
    """A base model that is only on this machine."""
    named = store.record.base
    if not is_on_hub(named):
        yield OutputError(
            f"the base model of the store is {named}, which nobody finds from the Hub",
            where=str(folder / RECORD),
            must_be="a model on the Hub, which the store names by its commit",
            fix="publish the base model, write `base_model: owner/name` into the recipe, and compress again with "
            "--overwrite",
        )


def _unledgered(folder: Path, held: set[str]) -> Iterator[MergingError]:
    """Tensors that only the ledger or only the weights have."""
    other = sorted({name for name, _, _ in ledger_parts(folder)} ^ held)
    if other:
        yield OutputError(
            f"{len(other)} tensors are in the weights or in the ledger only",
            where=", ".join(map(json.dumps, other[:5])),
            must_be=f"the weights that {LEDGER} is about",
            fix="compress the models again",
        )
