"""How a recipe names one of the tasks that are kept together: `store:folder#task`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from merging.errors import CheckpointError, MergingError
from merging.store.files import LocalFiles
from merging.store.record import RECORD, STORE, is_store, read_store_record


def spellings(text: str) -> Iterator[tuple[str, str]]:
    """Every folder and task that a text without its `store:` may mean, the longest folder first.

    >>> list(spellings("a#b#c"))
    [('a#b#c', ''), ('a#b', 'c'), ('a', 'b#c')]
    """
    yield text, ""
    for i in range(len(text) - 1, -1, -1):
        if text[i] == "#":
            yield text[:i], text[i + 1 :]


def base_of(folder: Path) -> str:
    """The source of a store's base model, seen from the store. Raises CheckpointError where that is a store again."""
    named = read_store_record(LocalFiles(folder)).base
    if named.startswith(STORE):
        raise CheckpointError(f"{named} is itself a task of a store", must_be="a base model")
    return named


def baseless(folder: Path, error: MergingError, where: str | None) -> MergingError:
    """The base model is not where a store says."""
    return CheckpointError(
        f"the base model of the store {folder} is not found: {error.what}",
        where=where or str(folder / RECORD),
        must_be=error.must_be,
        fix=f"put the base model there, or write its place into {folder / RECORD}; its fingerprint is checked",
    )


def no_store(named: str, close: Sequence[str], where: str | None) -> MergingError:
    """There is no folder of that name."""
    return CheckpointError(
        f"there is no store {named or '(empty name)'}",
        where=where,
        must_be=f"{STORE}folder#task, with a folder that `merging compress` wrote",
        fix="nearest: " + ", ".join(f"{STORE}{each}" for each in close) if close else None,
    )


def refuse_store(folder: Path) -> None:
    """Raise CheckpointError for a store without a task, naming those it holds."""
    if is_store(folder):
        tasks = read_store_record(LocalFiles(folder)).tasks
        raise CheckpointError(
            f"{folder} is a store of {len(tasks)} tasks, and no model by itself",
            must_be="one of " + ", ".join(f"{STORE}{folder}#{task}" for task in tasks),
        )
