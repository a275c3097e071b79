"""A recipe's text that holds wherever it lies: relative paths that exist become absolute, all else stays as written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from merging.errors import MergingError
from merging.recipe.recipe import Recipe
from merging.recipe.source import find_source
from merging.recipe.text import read_recipe, recipe_from_data, write_yaml


def anchored(text: str, recipe: Recipe, folder: Path) -> str:
    """The text of `recipe` with every relative model that is found from `folder` written as an absolute path.

    Comments and the order of lines stay where the paths can be put in place; else it is the canonical form.
    """
    moved = {source: at for source in recipe.sources() if (at := _absolute(source, folder)) != source}
    if not moved:
        return text
    wanted = _renamed(recipe.data(), moved)
    edited = _edited(text, recipe, moved)
    return edited if edited is not None and _data(edited) == _canonical(wanted) else write_yaml(wanted)


def _absolute(source: str, folder: Path) -> str:
    """The source seen from anywhere; as it is where it names nothing here, or its home folder."""
    if Path(source).is_absolute() or source.startswith("~"):
        return source
    try:
        found = find_source(source, relative_to=folder)
    except MergingError:
        return source
    return found.seen_from() if any(isinstance(place, Path) for place in found.places) else source


def _renamed(value: Any, moved: Mapping[str, str], key: str = "") -> Any:
    """Canonical data with its models renamed."""
    if isinstance(value, Mapping):
        return {name: _renamed(content, moved, key if key == "companions" else name) for name, content in value.items()}
    if isinstance(value, list):
        return [_renamed(item, moved, key) for item in value]
    named = key in ("model", "base_model", "tokenizer_source", "companions")
    return moved.get(value, value) if named and isinstance(value, str) else value


def _edited(text: str, recipe: Recipe, moved: Mapping[str, str]) -> str | None:
    """The text with paths exchanged where they stand; None where one is spelled in another way."""
    lines = text.splitlines(keepends=True)
    mentions = [*recipe.mentions(), (("tokenizer_source",), recipe.tokenizer_source)]
    spots = {recipe.places.get(path): (path[-1], source) for path, source in mentions if source in moved}
    places = [place for place in spots if place is not None and place.line <= len(lines)]
    if len(places) < len(spots):
        return None
    # The last on a line goes first: columns to its left stay.
    for place in sorted(places, key=lambda each: (each.line, each.column), reverse=True):
        key, source = spots[place]
        line, at = lines[place.line - 1], place.column - 1
        # A place is that of the key, where there is one.
        at += len(re.match(rf"""(["']?){re.escape(str(key))}\1\s*:\s+|""", line[at:])[0])  # type: ignore[index]
        spelled = next((each for each in (f'"{source}"', f"'{source}'", source) if line[at:].startswith(str(each))), "")
        if not spelled:
            return None
        path = json.dumps(moved[str(source)], ensure_ascii=False)
        lines[place.line - 1] = line[:at] + path + line[at + len(spelled) :]
    return "".join(lines)


def _data(text: str) -> Any:
    try:
        return read_recipe(text if "\n" in text else text + "\n", lenient=True).data()
    except MergingError:
        return None


def _canonical(data: Mapping[str, Any]) -> Any:
    try:
        return recipe_from_data(data, lenient=True).data()
    except MergingError:
        return None
