"""Where a merge comes from, as others may see it: Hub ids with their commits, and local models by their last name.

Nobody else's disk looks like the one that a merge was made on, and the path to a model tells who made it. So a local
model is published as the last component of its path, wherever it is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from merging.hub.names import COMMIT, HubName, parse_hub_name
from merging.hub.redact import redacted
from merging.publish.markup import visible
from merging.recipe.recipe import KeyPath, Recipe
from merging.recipe.text import recipe_from_data
from merging.store.record import STORE

Role = Literal["base model", "model", "statistics"]
_HEX = re.compile(r"[0-9a-f]{8,128}")
_LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")
HUB_SCHEME = "hf://"
NAMELESS = "local model"


@dataclass(frozen=True, slots=True)
class Parent:
    """One checkpoint that went in: a repository at a commit, or something local, of which only a name is told.

    `license` is the Hub's id for what the repository's card says, None where it says nothing; `integrity` is how the
    bytes that were read were checked.
    """

    name: str
    repository: str | None = None
    commit: str | None = None
    license: str | None = None
    license_name: str | None = None
    gated: bool = False
    private: bool = False
    integrity: str | None = None

    @property
    def pinned(self) -> str:
        """What names it in a recipe for ever: `owner/name@commit`, or its name where it is local."""
        return f"{self.repository}@{self.commit}" if self.repository and self.commit else self.name


@dataclass(frozen=True, slots=True)
class Model:
    """One input of the merge: a parent, a base model and its adapter, or a task of a store and the store's base model.

    `fingerprint` is the record's digest of it, `task` the task's name or number.
    """

    parents: tuple[Parent, ...]
    role: Role
    fingerprint: str | None
    name: str
    task: str | None = None

    @property
    def pinned(self) -> str:
        """How a recipe names it for ever; by its name where nothing of it is on a Hub."""
        if self.task is not None:
            return f"{STORE}{self.parents[0].pinned}#{self.task}"
        if not any(parent.repository for parent in self.parents):
            return self.name
        return "+".join(parent.pinned for parent in self.parents)

    @property
    def is_local(self) -> bool:
        """Whether part of it is on no Hub."""
        return any(parent.repository is None for parent in self.parents)


@dataclass(frozen=True)
class Lineage:
    """The inputs of a merge in the record's order, and its recipe as it was written and with commits in it."""

    models: tuple[Model, ...]
    recipe: Recipe
    written: Mapping[str, Any]
    pinned: Mapping[str, Any]

    @property
    def parents(self) -> tuple[Parent, ...]:
        """Every checkpoint that went in, once."""
        return tuple(dict.fromkeys(parent for model in self.models for parent in model.parents))

    @property
    def base_models(self) -> tuple[str, ...]:
        """Hub ids of what was merged, once each, in order; statistics are none."""
        merged = (model for model in self.models if model.role in ("base model", "model"))
        ids = (parent.repository for model in merged for parent in model.parents)
        return tuple(dict.fromkeys(each for each in ids if each))


def read_lineage(record: Mapping[str, Any], parents: Sequence[Mapping[str, Any]] | None = None) -> Lineage:
    """The lineage in a merge's record; `parents` is what the Hub says of its repositories, by default the record's.

    Raises RecipeError or Problems where the recorded recipe is none.
    """
    recipe = recipe_from_data(record.get("recipe") or {})
    known = [told for told in map(_told, _mappings(record.get("parents") if parents is None else parents)) if told]
    entries = _mappings(record.get("models"))
    sources = [str(entry.get("source", "")) for entry in entries]
    split = [_parents(source, entry, known) for source, entry in zip(sources, entries, strict=True)]
    tasks = list(map(_task, sources))
    names = _distinct([_name(parts, task) for parts, task in zip(split, tasks, strict=True)])
    models = tuple(
        Model(parts, _role(recipe, source), _fingerprint(entry), name, task)
        for parts, source, entry, name, task in zip(split, sources, entries, names, tasks, strict=True)
    )
    named = dict(zip(sources, models, strict=True))
    written = {source: model.name if model.is_local else source for source, model in named.items()}
    pinned = {source: model.pinned for source, model in named.items()}
    return Lineage(models, recipe, _renamed(recipe, written), _renamed(recipe, pinned))


def local_name(source: str) -> str:
    """The last component of a local path, in the spelling of any system.

    >>> local_name("/mnt/ada/models/math/"), local_name("..")
    ('math', 'local model')
    """
    last = re.split(r"[/\\]", source.rstrip("/\\"))[-1]
    return visible(redacted(last)) if last.strip(" .~:") else NAMELESS


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, Sequence) else []


def _told(told: Mapping[str, Any]) -> tuple[str | None, Parent] | None:
    """A repository's revision as the recipe names it, and what is known of it; None where it has no Hub id."""
    name = parse_hub_name(str(told.get("repository")))
    if name is None:
        return None
    commit, revision = told.get("commit"), told.get("revision")
    license_, license_name = _licence(_text(told.get("license")), _text(told.get("license_name")))
    parent = Parent(
        name=name.repository,
        repository=name.repository,
        commit=commit if isinstance(commit, str) and COMMIT.fullmatch(commit) else None,
        license=license_,
        license_name=license_name,
        gated=bool(told.get("gated")),
        private=bool(told.get("private")),
        integrity=_text(told.get("integrity")),
    )
    return (None if revision in (None, "main") else str(revision)), parent


def _licence(told: str | None, name: str | None) -> tuple[str | None, str | None]:
    """A licence as the Hub's id and a name; what is no id, for a card may say anything, is a licence of its own."""
    if told is None:
        return None, None
    return (told.lower(), name) if _LICENCE_ID.fullmatch(told.lower()) else ("other", name or told)


def _text(value: Any) -> str | None:
    return visible(value) if isinstance(value, str) and value.strip() else None


def _parents(source: str, entry: Mapping[str, Any], known: Iterable[tuple[str | None, Parent]]) -> tuple[Parent, ...]:
    own = _told(entry)
    candidates = [*known, *([own] if own else [])]
    commit = own[1].commit if own else None
    if source.startswith(STORE):
        return _behind_task(source, entry, [parent for _, parent in candidates])
    return tuple(_parent(part, candidates, commit) for part in source.split("+") if part) or (Parent(NAMELESS),)


def _behind_task(source: str, entry: Mapping[str, Any], known: Sequence[Parent]) -> tuple[Parent, ...]:
    """The store and its base model; which that is only the record says."""
    told = [parent for _, parent in filter(None, map(_told, _mappings(entry.get("pinned"))))]
    found = [next((each for each in known if _is_same(each, pin)), pin) for pin in told]
    if found and _is_same(found[0], Parent("", entry.get("repository"), entry.get("commit"))):
        return tuple(found)
    return Parent(local_name(source.removeprefix(STORE).rpartition("#")[0])), *found


def _is_same(one: Parent, other: Parent) -> bool:
    return (one.repository, one.commit) == (other.repository, other.commit)


def _parent(part: str, candidates: Iterable[tuple[str | None, Parent]], commit: str | None) -> Parent:
    """What a part of a source is: on the Hub only where the record says so, for a path may look like an id.

    Several names of a revision may stand for one commit; `commit` is what the record says of the source itself.
    """
    named = parse_hub_name(part) or HubName("")
    same = [(revision, parent) for revision, parent in candidates if parent.repository == named.repository]
    wanted = None if named.revision == "main" else named.revision
    exact = [parent for revision, parent in same if wanted in (revision, parent.commit)]
    own = [parent for _, parent in same if commit and parent.commit == commit]
    if same:
        return next(iter([*own, *exact, same[0][1]]))
    return Parent(local_name(part.removeprefix(HUB_SCHEME)))


def _task(source: str) -> str | None:
    """Of a store the task that a source names."""
    return visible(redacted(source.rpartition("#")[2])) if source.startswith(STORE) and "#" in source else None


def _name(parents: Sequence[Parent], task: str | None) -> str:
    return "+".join(parent.name for parent in parents) if task is None else f"{STORE}{parents[0].name}#{task}"


def _distinct(names: Sequence[str]) -> list[str]:
    """Names with a number after those that stand for several models."""
    found: list[str] = []
    for name in names:
        count = 1
        while (name if count == 1 else f"{name} ({count})") in found:
            count += 1
        found.append(name if count == 1 else f"{name} ({count})")
    return found


def _role(recipe: Recipe, source: str) -> Role:
    paths = [path for path, named in recipe.mentions() if named == source]
    if any(path[-1] == "base_model" for path in paths):
        return "base model"
    return "statistics" if paths and all("companions" in path for path in paths) else "model"


def _fingerprint(entry: Mapping[str, Any]) -> str | None:
    told = entry.get("fingerprint")
    return told if isinstance(told, str) and _HEX.fullmatch(told) else None


def _renamed(recipe: Recipe, names: Mapping[str, str]) -> dict[str, Any]:
    """The recipe as data with other names for its models, and no secrets in its other texts."""
    data: dict[str, Any] = _without_secrets(recipe.data())
    for path, source in recipe.mentions():
        _put(data, path, names.get(source) or local_name(source))
    lender = recipe.tokenizer_source
    if lender is not None and lender != "base":
        data["tokenizer_source"] = names.get(lender) or local_name(lender)
    return data


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_secrets(content) for key, content in value.items()}
    if isinstance(value, list):
        return [_without_secrets(content) for content in value]
    return redacted(value) if isinstance(value, str) else value


def _put(data: Any, path: KeyPath, value: str) -> None:
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = value
