"""Where models are found: the bundled ones, folders under the roots that the workbench may see, and the Hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import streamlit as st

from merging import MergingError, find_source, find_zoo, parse_hub_name
from ui import remote

# Folders that may be listed and opened, set by `merging ui --root`; separated as in PATH.
ROOTS = "MERGING_UI_ROOTS"
# A listing stops here: a root may be a whole disk.
MOST_FOLDERS, MOST_LEVELS = 20_000, 6
_WEIGHTS = (".safetensors", ".safetensors.index.json")
_TOLD = (".safetensors", ".json", ".bin")
_SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages", "lost+found"})

# Of every file of a checkpoint its name, size in bytes and time of change in nanoseconds.
Stamp: TypeAlias = tuple[tuple[str, int, int], ...]


def roots() -> tuple[Path, ...]:
    """The folders that may be looked into: those given, else where the workbench was started."""
    given = [part for part in os.environ.get(ROOTS, "").split(os.pathsep) if part]
    return tuple(Path(part).resolve() for part in given or ["."])


@cache
def zoo_models() -> dict[str, str]:
    """The bundled models by what a person calls them, the base first; empty where they are not installed."""
    try:
        zoo = find_zoo()
    except MergingError:
        return {}
    named = {"base": zoo.base, **zoo.fine_tunes}
    adapters = {f"{name} (adapter)": f"{zoo.base}+{path}" for name, path in zoo.adapters.items()}
    return {f"zoo · {name}": str(path) for name, path in (named | adapters).items()}


@st.cache_data(ttl=30, show_spinner="Looking for checkpoints")
def found_models(folders: tuple[Path, ...]) -> dict[str, str]:
    """Checkpoints under these folders, by path: folders with safetensors files or an adapter."""
    return {str(path): str(path) for folder in folders for path in sorted(_checkpoints(folder))}


def known_models() -> dict[str, str]:
    """Every model that can be picked from a list, by the name shown."""
    return {**zoo_models(), **found_models(roots())}


def refusal(source: str) -> str | None:
    """Why a source may not be opened from here; None when it may.

    What is judged is what would be opened: paths must lie in the roots, and names on the Hub may be asked for unless
    the workbench was told otherwise. Of what cannot be found every part is judged as a path.
    """
    try:
        found = find_source(source)
    except MergingError:
        # Of a store it is the folder that would be looked for.
        named = source.removeprefix("store:").partition("#")[0] if source.startswith("store:") else source
        parts = [part for part in named.split("+") if not parse_hub_name(part)]
        return next(filter(None, map(path_refusal, parts)), None)
    for place in found.places:
        if isinstance(place, Path) and (says := path_refusal(str(place))):
            return says
        if not isinstance(place, Path) and not remote.is_allowed():
            return f"{place} names no folder here, and this workbench does not ask the Hub ({remote.SWITCH}=off)."
    return None


def path_refusal(path: str) -> str | None:
    """Why a path may not be opened or written to from here; links are followed before it is judged."""
    try:
        place = Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):
        # A home that nobody has, or letters that no path can hold.
        return f"{path!r} is no path."
    if any(place.is_relative_to(root) for root in _allowed()):
        return None
    shown = ", ".join(map(str, roots()))
    return f"{path} lies outside {shown}; start the workbench with `merging ui --root` to allow it."


def _allowed() -> tuple[Path, ...]:
    return (*roots(), *(Path(path).resolve().parent for path in list(zoo_models().values())[:1]))


def short(source: str) -> str:
    """What a model is called in charts and tables: its last folder, or what is left of an adapter's source."""
    return " + ".join(_last(part) for part in source.split("+"))


def _last(part: str) -> str:
    named = parse_hub_name(part)
    return named.repository.partition("/")[2] if named else Path(part.rstrip("/")).name or part


def stamp(source: str) -> Stamp:
    """Names, sizes and times of the files that a source is read from; changes when a checkpoint does.

    Of a source on the Hub, its commits; raises HubError, or StillAsking, while they are not known.
    """
    found: list[tuple[str, int, int]] = []
    if remote.is_remote(source):
        found += [(commit, 0, 0) for commit in remote.commits(source)]
    for place in _paths(source):
        try:
            files = [place] if place.is_file() else [Path(each.path) for each in os.scandir(place)]
            told = [(path.name, path.stat()) for path in files if path.name.endswith(_TOLD)]
        except OSError:
            continue
        found += [(name, state.st_size, state.st_mtime_ns) for name, state in told]
    return tuple(sorted(found))


def _paths(source: str) -> list[Path]:
    """The paths that a source is read from; of one that is not found, those that it names."""
    try:
        return [place for place in find_source(source).places if isinstance(place, Path)]
    except MergingError:
        return [Path(part) for part in source.split("+")]


def _checkpoints(root: Path) -> Iterator[Path]:
    """Folders with weights, not below hidden folders and not through links."""
    for folder, inside, files in islice(os.walk(root), MOST_FOLDERS):
        deep = len(Path(folder).relative_to(root).parts) >= MOST_LEVELS
        inside[:] = [] if deep else sorted(name for name in inside if name[0] != "." and name not in _SKIPPED)
        if any(name.endswith(_WEIGHTS) for name in files):
            yield Path(folder)
