"""A card put where it overwrites nothing that a person wrote.

Our text stands between two marks. What a repository's README.md becomes:

there is none, or it is metadata only    the card; keys and values of the metadata that was there stay as they are
it holds our marks                       the text between them is replaced, all around it stays; metadata that we wrote
                                         and nobody changed since follows the new card, all other metadata stays
it is a person's                         not a letter of the text changes, and the card goes to MERGE.md. Of the
                                         metadata, `base_model` with its relation and `tags` are added where they are
                                         missing: the Hub draws the family tree from them. A licence never is

Which keys are ours the first mark remembers, as a digest of each value: a value that a person changed is theirs for
good, and one that a person removed does not come back. Metadata that cannot be read with certainty is left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from merging.errors import MergingError
from merging.recipe.places import parse_yaml
from merging.recipe.text import write_yaml

README, MERGE = "README.md", "MERGE.md"

# The Hub's own reading of metadata, in huggingface_hub.repocard.
_METADATA = re.compile(r"\A(\s*---[ \t]*\r?\n)(.*?)(\r?\n---[ \t]*(?:\r?\n|\Z))", re.DOTALL)
_BEGIN = re.compile(r"<!-- merging:card begin(?P<ours>(?: [a-z_]+=[0-9a-f]{8})*) -->")
_END = "<!-- merging:card end -->"
# What may be added to a person's metadata.
_ADDED = ("base_model", "base_model_relation", "tags")
# Keys that say something of another one, and are ours only where that is.
_PARTNERS = {"base_model_relation": "base_model", "license_name": "license"}
_DIGITS = 8


def with_card(existing: str | None, card: str) -> tuple[str, str | None]:
    """README.md and MERGE.md (None: not needed) of a repository whose README.md is `existing` (None: it has none).

    `card` is `write_card`'s. The README is returned unchanged where nothing is to be added to it.
    """
    metadata, text = _parted(card)
    ours = parse_metadata(metadata) or {}
    if existing is None or not existing.strip():
        return f"---\n{write_yaml(ours)}---\n\n{_marked(text, _digests(ours))}", None
    front, body = _parted(existing)
    if is_ours(body):
        before, held, after = _around(body)
        renewed, digests = _renewed(front, ours, held)
        return renewed + before + _marked(text, digests).rstrip("\n") + after, None
    if front is not None and not body.strip():
        renewed, digests = _renewed(front, ours, {})
        return f"{renewed}\n{_marked(text, digests)}", None
    return _added(front, ours) + body, _marked(text, {})


def is_ours(text: str) -> bool:
    """Whether a README or a MERGE.md holds a card of ours, whole."""
    begin = _BEGIN.search(text)
    return begin is not None and text.rfind(_END) > begin.end()


def parse_metadata(front: str | None) -> dict[str, Any] | None:
    """The metadata in the block at the head of a card; None where there is none or it cannot be read with certainty."""
    parts = _METADATA.fullmatch(front) if front else None
    if parts is None:
        return None
    try:
        data, _, faults = parse_yaml(parts[2])
    except MergingError:
        return None
    return data if isinstance(data, dict) and not faults else None


def _parted(text: str) -> tuple[str | None, str]:
    """The block of metadata with its lines of dashes, and what follows; None where there is no such block."""
    parts = _METADATA.match(text)
    return (parts[0], text[parts.end() :]) if parts else (None, text)


def _marked(text: str, digests: Mapping[str, str]) -> str:
    held = "".join(f" {key}={digest}" for key, digest in digests.items())
    return f"<!-- merging:card begin{held} -->\n\n{text.strip()}\n\n{_END}\n"


def _around(body: str) -> tuple[str, dict[str, str], str]:
    """What stands before and after our text, and the digests that its first mark holds."""
    begin = _BEGIN.search(body)
    assert begin
    # The last one: a recipe may spell the mark, a person's text after the card hardly will.
    end = body.rfind(_END) + len(_END)
    held = dict(pair.split("=") for pair in begin["ours"].split())
    return body[: begin.start()], held, body[end:]


def _renewed(front: str | None, ours: Mapping[str, Any], held: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Metadata in which what is still ours is new, and the digests to remember.

    Where nothing changes the block is returned as it was, letter by letter.
    """
    known = {} if front is None else parse_metadata(front)
    if known is None:
        return front or "", dict(held)
    theirs = {key for key, value in known.items() if held.get(key) != _digest(value)}
    removed = {key: digest for key, digest in held.items() if key not in known and front is not None}
    closed = theirs | removed.keys()
    written = {k: value for k, value in ours.items() if k not in closed and _PARTNERS.get(k) not in closed}
    data = {key: value for key, value in known.items() if key in theirs or key in written} | written
    digests = {**removed, **_digests(written)}
    if front and data == known:
        return front, digests
    return _rewritten(front, known, data), digests


def _rewritten(front: str | None, known: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """The block with other values of ours; a person's comments and spelling stay where keys are only added."""
    if front and all(data.get(key) == value for key, value in known.items()):
        return _appended(front, {key: value for key, value in data.items() if key not in known}, data) or front
    return f"---\n{write_yaml(data)}---\n" if data else ""


def _appended(front: str, new: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    """The block with keys added after its own lines; None where that would not be read as meant."""
    parts = _METADATA.fullmatch(front)
    assert parts
    line_end = "\r\n" if "\r\n" in parts[1] else "\n"
    lines = write_yaml(new).rstrip("\n").replace("\n", line_end)
    grown = f"{parts[1]}{parts[2]}{line_end}{lines}{parts[3]}"
    return grown if parse_metadata(grown) == dict(data) else None


def _added(front: str | None, ours: Mapping[str, Any]) -> str:
    """A person's metadata with what the Hub needs for the family tree, where that is missing."""
    known = {} if front is None else parse_metadata(front)
    if known is None:
        return front or ""
    new = {key: ours[key] for key in _ADDED if key in ours and {key, _PARTNERS.get(key)}.isdisjoint(known)}
    if not new:
        return front or ""
    return _appended(front, new, {**known, **new}) or front if front else f"---\n{write_yaml(new)}---\n\n"


def _digests(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: _digest(value) for key, value in values.items()}


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_DIGITS]
