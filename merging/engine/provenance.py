"""Where an output comes from: what its record, its files' headers and its card say of recipe and models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from merging.checkpoint.tensors import Checkpoint
from merging.hub.client import Pinned
from merging.planning.plan import Plan
from merging.store.record import STORE


def provenance(plan: Plan) -> dict[str, Any]:
    """Enough to make an output again, nothing that differs between two equal runs."""
    names = plan.sources or [model.location for model in plan.models]
    return {
        "merging": _version(),
        "plan": plan.hash,
        "recipe": plan.recipe,
        "models": [_origin(name, model) for name, model in zip(names, plan.models, strict=True)],
        "seed": plan.seed,
    }


def lineage(plan: Plan) -> dict[str, Any]:
    """The same, and what the Hub says of the repositories it comes from."""
    return {**provenance(plan), "parents": parents(plan.models)}


def parents(models: Iterable[Checkpoint]) -> list[dict[str, Any]]:
    """The repositories that models come from, each once: what they are, and which check their bytes have passed."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for part in (part for model in models for part in getattr(model, "made_of", (model,))):
        for each in pinned(part):
            described = {
                "repository": each.repository,
                "revision": each.revision,
                "commit": each.commit,
                "license": each.license,
                "gated": each.gated,
                "private": each.private,
                "base_models": list(each.base_models),
                "integrity": getattr(part, "integrity", None),
            }
            found.setdefault((each.repository, each.revision, each.commit), described)
    return list(found.values())


def pinned(model: Checkpoint) -> tuple[Pinned, ...]:
    """The repositories that a model comes from: none for a local one, two for an adapter or a task on its base."""
    held: tuple[Pinned, ...] = getattr(model, "pinned", ())
    return held


def shareable(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record, or a part of one, as others may read it: of a path of this machine only the last name is told."""
    shown = {key: _shown(value) for key, value in record.items()}
    return {**shown, "recipe_folder": None} if "recipe_folder" in shown else shown


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _shown(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(inner) for inner in value]
    return "+".join(map(_last_name, value.split("+"))) if isinstance(value, str) else value


def _last_name(part: str) -> str:
    """The last component of an absolute path or of one in somebody's home; anything else as it is.

    >>> _last_name("/mnt/ada/models/math"), _last_name("../models/math"), _last_name("ada/math")
    ('math', '../models/math', 'ada/math')
    >>> _last_name("store:/mnt/ada/kept#math")
    'store:kept#math'
    """
    if part.startswith(STORE):
        folder, mark, task = part.removeprefix(STORE).rpartition("#")
        return f"{STORE}{_last_name(folder)}{mark}{task}"
    if part.startswith(("/", "~")):
        return PurePosixPath(part).name or "model"
    if part.startswith("\\\\") or PureWindowsPath(part).drive:
        return PureWindowsPath(part).name or "model"
    return part


def _origin(source: str, model: Checkpoint) -> dict[str, Any]:
    """A model by its name, its contents, and on the Hub by its commit.

    A task of a store comes from all that is `pinned`, and its source does not say which base model that is.
    """
    parts = getattr(model, "made_of", (model,))
    named = [[{"repository": each.repository, "commit": each.commit} for each in pinned(part)] for part in parts]
    beside = {"pinned": [each for part in named for each in part]} if len(parts) > 1 and any(named) else {}
    return {"source": source, "fingerprint": model.fingerprint, **(named[0][0] if named[0] else {}), **beside}


def _version() -> str:
    try:
        return version("merging")
    except PackageNotFoundError:
        return "unknown"
