"""How a recipe names one of the tasks that are kept together: `store:folder#task`, `store:owner/name#task`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from merging.checkpoint.headers import shown
from merging.errors import CheckpointError, HubError, MergingError
from merging.hub.names import is_explicit, parse_hub_name
from merging.store.files import LocalFiles, StoreFiles
from merging.store.record import INDEX, RECORD, STORE, is_store, read_store_record


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


def files_of_task(files: StoreFiles, task: str, names: Iterable[str]) -> list[str]:
    """Those of a store's files that one task needs. Raises CheckpointError where there is no store or no such task."""
    from merging.store.tasks import TaskStore

    if not is_store(files):
        raise no_store_there(files, None)
    store = TaskStore(files)
    others = set(store.shards()) - set(store.shards(store.number(task)))
    return [name for name in names if name not in others]


def is_on_hub(named: str) -> bool:
    """Whether the source of a base model, as a store names it, is all of repositories."""
    return all(is_explicit(part) and parse_hub_name(part) for part in named.split("+"))


def base_there(named: str, files: StoreFiles) -> str:
    """The source of the base model of a store on the Hub: repositories alone, whatever paths there are here.

    Raises CheckpointError for anything else: nobody else's disk decides which of our files is read.
    """
    if not is_on_hub(named):
        raise CheckpointError(
            f"the base model of the store {files.name} is {shown(named)}, which is on no Hub",
            where=f"{files.where}/{RECORD}",
            must_be="hf://owner/name, with a commit, for a store that others read",
            fix=f"fetch the store with `merging pull {files.name} FOLDER`, put the base model there or write its place "
            f"into FOLDER/{RECORD}, and read {STORE}FOLDER#task",
        )
    return named


def baseless_there(files: StoreFiles, error: HubError) -> HubError:
    """The base model cannot be had from the Hub."""
    return type(error)(
        f"the base model of the store {files.name} cannot be had: {error.what}",
        where=f"{files.where}/{RECORD}",
        must_be=error.must_be,
        fix=error.fix,
    )


def no_store(named: str, close: Sequence[str], where: str | None) -> MergingError:
    """There is no folder of that name, and it names no repository."""
    return CheckpointError(
        f"there is no store {named or '(empty name)'}",
        where=where,
        must_be=f"{STORE}folder#task, with a folder that `merging compress` wrote, or {STORE}owner/name#task",
        fix="nearest: " + ", ".join(f"{STORE}{each}" for each in close) if close else None,
    )


def no_store_there(files: StoreFiles, where: str | None) -> MergingError:
    """The repository is there, and is something else."""
    return CheckpointError(
        f"{files.where} is no store of tasks: it has no {RECORD} with {INDEX}",
        where=where,
        must_be="a repository to which `merging push` has put what `merging compress` wrote",
        fix=f"write {files.name} if the model itself is meant",
    )


def refuse_store(files: StoreFiles) -> None:
    """Raise CheckpointError for a store without a task, naming those it holds."""
    if is_store(files):
        tasks = read_store_record(files).tasks
        raise CheckpointError(
            f"{files.name} is a store of {len(tasks)} tasks, and no model by itself",
            must_be="one of " + ", ".join(f"{STORE}{files.name}#{task}" for task in tasks),
        )
