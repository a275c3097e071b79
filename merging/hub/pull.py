"""Fetching a repository: an adapter for a merge, or a whole checkpoint into a folder of one's own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from merging.checkpoint.folders import ADAPTER, SAFETENSORS
from merging.checkpoint.sidecars import sidecar_names
from merging.checkpoint.sink import require_space
from merging.errors import HubError, OutputError
from merging.hub.client import Hub, Pinned, RemoteFile, cache_folder, cached_file
from merging.hub.download import download_all, is_held

# Adapters beyond this are no adapters.
ADAPTER_LIMIT = 20 << 30
# What `merging run` and `merging compress` leave beside the weights.
_RECORDS = frozenset({"merging.json", "store.json", "merging-ledger.jsonl"})
_ADAPTER_WEIGHTS = "adapter_model.safetensors"


def fetch_adapter(hub: Hub, pinned: Pinned) -> Path:
    """The folder in the cache that holds a repository's LoRA adapter, fetched whole. Raises HubError."""
    missing = [name for name in (ADAPTER, _ADAPTER_WEIGHTS) if name not in pinned.files]
    if missing:
        raise HubError(
            f"{pinned.repository} is no adapter: it has no {' and no '.join(missing)}",
            must_be=f"a repository with {ADAPTER} and {_ADAPTER_WEIGHTS}",
        )
    if pinned.files[_ADAPTER_WEIGHTS].size > ADAPTER_LIMIT:
        raise HubError(f"the adapter {pinned.repository} is {pinned.files[_ADAPTER_WEIGHTS].size:,} bytes large")
    return download_all(hub, pinned, [ADAPTER, _ADAPTER_WEIGHTS])[ADAPTER].parent


def wanted_files(pinned: Pinned) -> list[str]:
    """The files of a repository that make a checkpoint: weights, index, configs and sidecars; never code or pickles.

    Where merging wrote it, also what it is opened or verified by.
    """
    weights = [path for path in pinned.files if path.endswith((SAFETENSORS, f"{SAFETENSORS}.index.json"))]
    configs = [path for path in pinned.files if path.endswith(("config.json", "README.md", "LICENSE"))]
    return sorted({*weights, *configs, *sidecar_names(pinned.files), *_RECORDS.intersection(pinned.files)})


def pull(
    hub: Hub,
    pinned: Pinned,
    folder: Path | None,
    watch: Callable[[RemoteFile], None] = lambda _: None,
    only: Collection[str] | None = None,
) -> Path:
    """Fetch a checkpoint into a folder, or into the cache where it is None; returns where it lies.

    `only` names those of its files that are wanted.
    A folder that holds other files than those of this repository is refused before anything is fetched, as is a disk
    without room. `watch` is told each file that is there. Raises HubError, OutputError.
    """
    known = wanted_files(pinned)
    names = [name for name in known if only is None or name in only]
    if not any(name.endswith(SAFETENSORS) for name in names):
        raise HubError(f"{pinned.repository} holds no safetensors weights", must_be="a repository that does")
    if folder is not None and folder.exists():
        _refuse_others(folder, pinned, known)
    place = folder or cache_folder()
    require_space(place, sum(pinned.files[name].size for name in names if not _is_here(pinned, name, folder)))
    found = download_all(hub, pinned, names, folder, watch)
    return folder or found[names[0]].parents[names[0].count("/")]


def _is_here(pinned: Pinned, name: str, folder: Path | None) -> bool:
    return cached_file(pinned, name) is not None if folder is None else (folder / name).exists()


def _refuse_others(folder: Path, pinned: Pinned, names: list[str]) -> None:
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file", must_be="a new or empty folder", fix="name another one")
    held = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    others = sorted(name for name in held if name not in names and not name.startswith(".cache/"))
    if others:
        raise OutputError(
            f"{folder} holds files that are not of this repository",
            where=", ".join(others[:5]),
            must_be="a new or empty folder, or one that an earlier `merging pull` of it began",
            fix="name another folder",
        )
    files = [pinned.files[name] for name in names if (folder / name).exists()]
    changed = [file.path for file in files if not is_held(folder / file.path, file)]
    if changed:
        raise OutputError(
            f"{folder} holds files that differ from those of {pinned}",
            where=", ".join(changed[:5]),
            must_be="as the repository has them: they would be overwritten",
            fix="delete or move them, or name another folder",
        )
