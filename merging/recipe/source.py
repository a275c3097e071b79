"""What a recipe calls a model, and opening it.

A source is a path: a folder, a .safetensors file or an index file; or a repository on the Hub, `owner/name` or
`owner/name@revision`; or `base+adapter`, a LoRA adapter on its base; or `store:folder#task`, a task of what `merging
compress` wrote, by its name or number; the folder may be a repository. A path is looked for first in the recipe's
folder, then in the current one. What exists on disk under the whole text is taken as it is, so paths with a "+" or "@"
of their own work; `hf://owner/name` never means a path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merging.checkpoint.tensors import Checkpoint
from merging.errors import CheckpointError, HubError, MergingError, NoRepositoryError, raise_all
from merging.hub.client import Hub
from merging.hub.fetching import Fetch
from merging.hub.names import HubName, is_explicit, parse_hub_name
from merging.recipe.paths import existing, nearest_paths
from merging.recipe.stores import (
    base_of,
    base_there,
    baseless,
    baseless_there,
    no_store,
    no_store_there,
    refuse_store,
    spellings,
)
from merging.store.files import LocalFiles
from merging.store.record import STORE, is_store

if TYPE_CHECKING:
    from merging.hub.checkpoint import RepositoryFiles
    from merging.store.tasks import TaskStore

Place = Path | HubName


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint on disk or on the Hub, and the adapter that is applied to it, if any.

    Of a store, `path` is where it lies, `task` what follows the "#" ("" where nothing does), `base` its base model;
    None for a store on the Hub, which has not been asked yet.
    """

    path: Place
    adapter: Place | None = None
    task: str | None = None
    base: Source | None = None

    @property
    def places(self) -> tuple[Place, ...]:
        """Everything that is opened for it."""
        own = (self.path,) if self.adapter is None else (self.path, self.adapter)
        return own + (self.base.places if self.base else ())

    def seen_from(self, folder: Path | None = None) -> str:
        """Its text where relative paths begin in `folder`; None: absolute paths, good anywhere."""
        own = (self.path,) if self.adapter is None else (self.path, self.adapter)
        text = "+".join(_from(place, folder) for place in own)
        return text if self.task is None else f"{STORE}{text}#{self.task}"


def open_source(
    text: str,
    *,
    relative_to: Path | None = None,
    allow_pickle: bool = False,
    where: str | None = None,
    fetch: Fetch = "snapshot",
    hub: Callable[[], Hub] | None = None,
) -> Checkpoint:
    """Open what `text` names as a checkpoint; reads headers only. `relative_to` is the recipe's folder.

    `where` is the place in the recipe; `fetch` says how a repository's bytes are had: "snapshot" keeps whole files in
    the Hub's cache, "shards" fetches them one after another and removes each, "ranges" keeps nothing on disk. An
    adapter on the Hub is small and is fetched whole; of a store only what the task needs is fetched. `hub` is asked for
    the Hub if there is need of one, by default the environment's. Raises CheckpointError, HubError, or Problems with
    all that is wrong.
    """
    source = find_source(text, relative_to=relative_to, where=where)
    try:
        opened = partial(_adapted, allow_pickle=allow_pickle, fetch=fetch, hub=hub or Hub.from_environment)
        if source.task is None:
            return opened(source)
        store, base = _store(source, fetch, hub or Hub.from_environment, where)
        # Of a task that is not there no base model is opened.
        number = store.number(source.task, where)
        return store.open(number, _based(store, partial(opened, base)))
    except HubError as error:
        close = _meant_here(text, relative_to) if isinstance(error, NoRepositoryError) else []
        fix = "; ".join(([error.fix] if error.fix else []) + ([f"nearest here: {', '.join(close)}"] if close else []))
        kind = type(error)
        raise kind(error.what, where=where or error.where, must_be=error.must_be, fix=fix or None) from None


def _store(source: Source, fetch: Fetch, hub: Callable[[], Hub], where: str | None) -> tuple[TaskStore, Source]:
    """The store that a source names, and its base model."""
    from merging.store.tasks import TaskStore

    if isinstance(source.path, Path):
        assert source.base
        return TaskStore(source.path), source.base
    files = _repository(source.path, fetch, hub)
    if not is_store(files):
        raise no_store_there(files, where)
    store = TaskStore(files)
    return store, find_source(base_there(store.record.base, files))


def _based(store: TaskStore, opened: Callable[[], Checkpoint]) -> Checkpoint:
    """The base model; what the Hub says of it is told as said of that."""
    try:
        return opened()
    except HubError as error:
        raise baseless_there(store.files, error) from None


def _adapted(source: Source, allow_pickle: bool, fetch: Fetch, hub: Callable[[], Hub]) -> Checkpoint:
    """A checkpoint, with its adapter applied if it has one."""
    base = _opened(source.path, allow_pickle, fetch, hub)
    if source.adapter is None:
        return base
    from merging.checkpoint.adapters import AdaptedCheckpoint, open_adapter

    folder, pinned = _adapter(source.adapter, hub)
    adapted = AdaptedCheckpoint(base, open_adapter(folder, allow_pickle=allow_pickle))
    adapted.pinned += pinned
    return adapted


def _meant_here(text: str, relative_to: Path | None) -> list[str]:
    """Paths that may have been meant by what is no repository."""
    folders = [Path()] if relative_to is None else [relative_to, Path()]
    text = text.removeprefix(STORE).partition("#")[0] if text.startswith(STORE) else text
    parts = [] if is_explicit(text) else text.split("+")
    return [each for part in parts for each in nearest_paths(part, folders)]


def _opened(place: Place, allow_pickle: bool, fetch: Fetch, hub: Callable[[], Hub]) -> Checkpoint:
    if isinstance(place, Path):
        from merging.checkpoint.shards import open_checkpoint

        refuse_store(LocalFiles(place))
        return open_checkpoint(place, allow_pickle=allow_pickle)
    from merging.hub.checkpoint import open_pinned

    files = _repository(place, fetch, hub)
    refuse_store(files)
    return open_pinned(files)


def _repository(name: HubName, fetch: Fetch, hub: Callable[[], Hub]) -> RepositoryFiles:
    from merging.hub.checkpoint import RepositoryFiles

    asked = hub()
    return RepositoryFiles(asked, asked.pin(name), str(name), fetch)


def _adapter(place: Place, hub: Callable[[], Hub]) -> tuple[Path, tuple[Any, ...]]:
    """The folder of an adapter, and the pinned repository it comes from if it does."""
    if isinstance(place, Path):
        return place, ()
    from merging.hub.pull import fetch_adapter

    pinned = hub().pin(place)
    return fetch_adapter(hub(), pinned), (pinned,)


def find_source(text: str, *, relative_to: Path | None = None, where: str | None = None) -> Source:
    """What `text` names; of a store the record is read. Raises CheckpointError with the nearest names that exist."""
    folders = [Path()] if relative_to is None else [relative_to, Path()]
    whole_path = existing(text, folders)
    if whole_path is not None:
        return Source(whole_path)
    if text.startswith(STORE):
        return _find_store(text.removeprefix(STORE), folders, where)
    for plus in re.finditer(r"\+", text):
        base, adapter = _place(text[: plus.start()], folders), _place(text[plus.end() :], folders)
        if base is not None and adapter is not None:
            return Source(base, adapter)
    # A revision may have a "+" of its own.
    whole = _place(text, folders)
    if whole is not None:
        return Source(whole)
    parts = text.split("+")
    if len(parts) > 2:
        must_be = "a path, or `base+adapter`"
        raise CheckpointError(f"{text!r} names more than one adapter", where=where, must_be=must_be)
    raise_all([_refusal(part, folders, where) for part in parts if _place(part, folders) is None])
    raise AssertionError("a source whose parts all exist was found above")


def _find_store(spelled: str, folders: Sequence[Path], where: str | None) -> Source:
    """A folder or a repository, and a task; of folders whose names hold a "#", the longest that is there."""
    for named, task in spellings(spelled):
        folder = existing(named, folders)
        if folder is not None:
            base = base_of(folder)
            try:
                return Source(folder, task=task, base=find_source(base, relative_to=folder))
            except MergingError as error:
                raise baseless(folder, error, where) from None
    # A task may be called what its model's folder was, and a repository's name holds no "#".
    named, _, task = spelled.partition("#")
    place = _place(named, folders)
    if isinstance(place, HubName):
        return Source(place, task=task)
    named = spelled.rpartition("#")[0] or spelled
    close = [*nearest_paths(named, folders), *([f"hf://{named}"] if parse_hub_name(named) else [])]
    raise no_store(named, close, where)


def _from(place: Place, folder: Path | None) -> str:
    """A place where relative paths begin in a folder. Whatever folders there are, a repository stays one."""
    if not isinstance(place, Path):
        return f"hf://{place}"
    if folder is None:
        return str(place.absolute())
    seen = os.path.relpath(place.absolute(), folder.resolve())
    return seen if seen.startswith(os.pardir) else f"./{seen}"


def at_commits(text: str, commits: Mapping[tuple[str, str], str]) -> str:
    """A source whose repositories are those of known commits, by (repository, revision); other parts as they are.

    >>> at_commits("owner/base+./lora", {("owner/base", "main"): "0a1b"})
    'hf://owner/base@0a1b+./lora'
    >>> at_commits("store:owner/tasks@v1#math", {("owner/tasks", "v1"): "2c3d"})
    'store:hf://owner/tasks@2c3d#math'
    """

    def pinned(part: str) -> str:
        named = parse_hub_name(part)
        commit = commits.get((named.repository, named.revision or "main")) if named else None
        return f"hf://{named.repository}@{commit}" if named and commit else part

    if text.startswith(STORE):
        named, mark, task = text.removeprefix(STORE).partition("#")
        return f"{STORE}{pinned(named)}{mark}{task}"
    return "+".join(pinned(part) for part in text.split("+"))


def _place(text: str, folders: Sequence[Path]) -> Place | None:
    """An existing path, else a repository: unless its owner is a folder here, for then a path is misspelled."""
    if is_explicit(text):
        return parse_hub_name(text)
    path = existing(text, folders)
    if path is not None:
        return path
    named = parse_hub_name(text)
    if named is None or existing(str(named.repository), folders) is not None:
        return None
    return named if existing(named.repository.partition("/")[0], folders) is None else None


def _refusal(part: str, folders: Sequence[Path], where: str | None) -> MergingError:
    path, _, revision = part.partition("@")
    close = nearest_paths(path, folders)
    if not part:
        must_be = "a folder, a .safetensors file, or `base+adapter`"
        return CheckpointError("a model has an empty name", where=where, must_be=must_be)
    if "@" in revision:
        return CheckpointError(f"{part!r} names more than one revision", where=where, must_be="`path@revision`")
    if revision and existing(path, folders) is not None:
        return CheckpointError(
            f"{path} is a local folder or file, and those have no revisions", where=where, fix=f"write {path!r}"
        )
    if is_explicit(part):
        must_be = "hf://owner/name, or hf://owner/name@revision"
        return CheckpointError(f"{part!r} names no repository on the Hub", where=where, must_be=must_be)
    if parse_hub_name(part):
        close.append(f"hf://{part} if it is on the Hub")
    return CheckpointError(
        f"there is no file or folder {path}",
        where=where,
        must_be=f"found in {' or '.join(str(folder.absolute()) for folder in dict.fromkeys(folders))}",
        fix="nearest: " + ", ".join(close) if close else None,
    )
