"""What the Hub tells before anything is fetched: the models of a name, and who we are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any

from merging.errors import HubError
from merging.hub.answers import told
from merging.hub.client import Hub

# What the Hub calls a repository that holds safetensors files, and those that change another model's weights.
_SAFETENSORS = "safetensors"
_ADAPTERS = ("lora", "peft", "adapter", "adapters")
_ADAPTER_OF = "base_model:adapter:"
_ASKED = ("downloads", "likes", "lastModified", "gated", "private", "tags", "library_name", "cardData", _SAFETENSORS)
_LICENCE = "license:"
# Bits of an entry, by what the Hub calls its kind.
_BITS = {
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "F32": 32,
    "I32": 32,
    "U32": 32,
    "F16": 16,
    "BF16": 16,
    "I16": 16,
    "U16": 16,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "I8": 8,
    "U8": 8,
    "BOOL": 8,
    "F4": 4,
}
MOST = 100


@dataclass(frozen=True, slots=True)
class Found:
    """A repository with safetensors weights, as the Hub's search tells it; None where it does not.

    `entries` and `nbytes` are those of its weights, `base_models` the ids that its card names.
    """

    id: str
    downloads: int = 0
    likes: int = 0
    modified: datetime | None = None
    gated: bool = False
    private: bool = False
    license: str | None = None
    entries: int | None = None
    nbytes: int | None = None
    adapter: bool = False
    base_models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """Whose token it is, the organisations that he or she belongs to, and whether the token may write."""

    name: str
    organisations: tuple[str, ...] = ()
    may_write: bool = True


def account(hub: Hub | None = None) -> Account | None:
    """The account of the token, None where there is none or the Hub is not asked. Raises HubError for a wrong one."""
    hub = hub or Hub.from_environment()
    if hub.offline or not hub.token:
        return None
    try:
        told_of = hub.api().whoami()
    except Exception as error:
        raise told(error, f"whose token this is at {hub.endpoint}") from None
    role = ((told_of.get("auth") or {}).get("accessToken") or {}).get("role")
    names = tuple(str(each["name"]) for each in told_of.get("orgs") or () if each.get("name"))
    return Account(str(told_of.get("name")), names, role != "read")


def search(text: str, hub: Hub | None = None, limit: int = 20) -> tuple[Found, ...]:
    """Repositories with safetensors weights whose names hold `text`, the most downloaded first.

    `hub` is by default that of the environment; `owner/` at the beginning of `text` looks among one owner's alone.
    Raises HubError, also in offline mode, where there is nothing to search in.
    """
    if not 0 < limit <= MOST:
        raise HubError(f"a search cannot find {limit} repositories", must_be=f"a number from 1 to {MOST}")
    hub = hub or Hub.from_environment()
    if hub.offline:
        raise HubError("the Hub is not searched in offline mode", fix="unset HF_HUB_OFFLINE")
    owner, _, name = text.strip().rpartition("/")
    try:
        found = hub.api().list_models(
            search=name or None,
            author=owner or None,
            filter=_SAFETENSORS,
            sort="downloads",
            limit=limit,
            expand=list(_ASKED),
        )
        return tuple(map(_found, found))
    except Exception as error:
        raise told(error, f"a search for {text.strip()!r}") from None


def _found(model: Any) -> Found:
    tags = [str(tag) for tag in model.tags or ()]
    card: Mapping[str, Any] = model.card_data.to_dict() if model.card_data else {}
    counts: Mapping[str, int] = getattr(model.safetensors, "parameters", None) or {}
    named = card.get("base_model")
    made_with = getattr(model, "library_name", None)
    is_adapter = made_with == "peft" or any(tag in _ADAPTERS or tag.startswith(_ADAPTER_OF) for tag in tags)
    return Found(
        id=str(model.id),
        downloads=int(model.downloads or 0),
        likes=int(model.likes or 0),
        modified=model.last_modified,
        gated=bool(model.gated),
        private=bool(model.private),
        license=_licence(card, tags),
        entries=getattr(model.safetensors, "total", None),
        nbytes=_nbytes(counts),
        adapter=is_adapter,
        base_models=tuple(map(str, named if isinstance(named, list) else [named] if named else ())),
    )


def _licence(card: Mapping[str, Any], tags: list[str]) -> str | None:
    """The licence's own name where the card gives one, else the id among the tags."""
    tagged = next((tag.removeprefix(_LICENCE) for tag in tags if tag.startswith(_LICENCE)), None)
    stated = card.get("license_name") if card.get("license") == "other" else card.get("license")
    return str(stated) if isinstance(stated, str) and stated else tagged


def _nbytes(counts: Mapping[str, int]) -> int | None:
    """Bytes of so many entries of each kind; None where a kind is not known."""
    if not counts or any(kind not in _BITS for kind in counts):
        return None
    return sum(ceil(count * _BITS[kind] / 8) for kind, count in counts.items())


# By these names they are found in `merging`, where "search" alone would say too little.
search_hub, hub_account = search, account
