"""What the Hub tells of a model, most of it read from its card and its config."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import yaml

from tests.hub.storage import Commit, Repository

if TYPE_CHECKING:
    from tests.hub.state import State


def front_matter(text: str) -> dict[str, Any]:
    """The settings at the head of a card; {} where there are none. yaml.YAMLError where they are no YAML."""
    head, *rest = text.lstrip("\ufeff").split("---", 2)
    if head.strip() or len(rest) < 2:
        return {}
    found = yaml.safe_load(rest[0])
    return found if isinstance(found, dict) else {}


def described(state: State, repository: Repository, commit: Commit | None, *, blobs: bool = False) -> dict[str, Any]:
    """All fields of a model; with `blobs` every file has its size and hashes."""
    files = commit.files if commit else {}
    card: dict[str, Any] = {}
    config: dict[str, Any] = {}
    with suppress(KeyError, ValueError, yaml.YAMLError):
        card = front_matter(state.objects.open(files["README.md"].sha256).read().decode())
    with suppress(KeyError, ValueError):
        config = json.loads(state.objects.open(files["config.json"].sha256).read())
    siblings: list[dict[str, Any]] = [{"rfilename": path} for path in files]
    for entry, blob in zip(siblings, files.values(), strict=True):
        if blobs:
            entry |= {"blobId": blob.oid, "size": blob.size}
        if blobs and blob.lfs:
            entry["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
    return {
        "_id": hashlib.sha1(repository.name.encode()).hexdigest()[:24],
        "id": repository.name,
        "modelId": repository.name,
        "author": repository.name.split("/")[0],
        "sha": commit.id if commit else None,
        "lastModified": commit.date if commit else repository.created,
        "createdAt": repository.created,
        "private": repository.private,
        "gated": repository.gated,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": _tags(card, files),
        "siblings": siblings,
        "spaces": [],
        "usedStorage": _used(repository),
        **({"cardData": card} if card else {}),
        **({"config": {k: config[k] for k in ("architectures", "model_type") if k in config}} if config else {}),
        **({"library_name": card["library_name"]} if "library_name" in card else {}),
        **({"pipeline_tag": card["pipeline_tag"]} if "pipeline_tag" in card else {}),
        **({"baseModels": _base_models(card)} if card.get("base_model") else {}),
    }


def _used(repository: Repository) -> int:
    blobs = {blob.sha256: blob.size for commit in repository.commits.values() for blob in commit.files.values()}
    return sum(blobs.values())


def _listed(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)] if value else []


def _tags(card: dict[str, Any], files: Iterable[str]) -> list[str]:
    tags = [str(card["library_name"])] if "library_name" in card else []
    tags += ["safetensors"] if any(path.endswith(".safetensors") for path in files) else []
    tags += _listed(card.get("tags"))
    relation = card.get("base_model_relation")
    for base in _listed(card.get("base_model")):
        tags += [f"base_model:{base}", *([f"base_model:{relation}:{base}"] if relation else [])]
    tags += [f"license:{name}" for name in _listed(card.get("license"))]
    return list(dict.fromkeys([*tags, "region:us"]))


def _base_models(card: dict[str, Any]) -> dict[str, Any]:
    relation = card.get("base_model_relation", "finetune")
    return {"relation": relation, "models": [{"id": name} for name in _listed(card.get("base_model"))]}
