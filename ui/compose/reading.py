"""The text of a recipe and its data, both ways; a change of one value leaves the rest of the text as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merging import MergingError, Problems, Recipe, parse_yaml, read_recipe, write_yaml
from ui.compose.form import Data, method_of, with_key
from ui.compose.patching import changes, patched

# A model where none was chosen yet, so that the rest of the recipe can be read.
_STAND_IN = "-"
# Lines that point at other lines, and are wrong by themselves when those are gone.
_POINTING = ("missing_tensors", "tokenizer_source")
_COMMENT = re.compile(r"(^|\s)#", re.MULTILINE)


@dataclass(frozen=True)
class Reading:
    """A text as it was read. `data` is what the form can work on, None where it cannot; `recipe` what can be merged."""

    text: str
    data: Data | None
    recipe: Recipe | None
    problems: tuple[MergingError, ...] = ()


def read(text: str) -> Reading:
    """Read a recipe, finished or not."""
    try:
        recipe = read_recipe(lines(text))
        data = recipe.data()
    except MergingError as error:
        problems = error.problems if isinstance(error, Problems) else (error,)
        return Reading(text, _unfinished(text), None, tuple(problems))
    return Reading(text, data if method_of(data) else None, recipe)


def lines(text: str) -> str:
    """Text with a line end, without which it would be taken for a path."""
    return text if "\n" in text else f"{text}\n"


def _unfinished(text: str) -> Data | None:
    """Data of a recipe that only lacks models, or whose lines point at what is gone."""
    try:
        written, _, faults = parse_yaml(lines(text))
        if faults or not isinstance(written, dict):
            return None
        pointing = {key: written.pop(key) for key in _POINTING if isinstance(written.get(key), str)}
        empty = not (written.get("models") or written.get("slices"))
        if empty:
            written |= {"models": [{"model": _STAND_IN}], "slices": None}
        data = read_recipe(lines(write_yaml(written))).data()
    except MergingError:
        return None
    data = with_key(data | pointing, "models", None if empty else data.get("models"))
    return data if method_of(data) else None


def rewritten(reading: Reading, data: Mapping[str, Any]) -> str:
    """The text that says `data`: the old one with one value changed where that is enough, else written anew."""
    assert reading.data is not None
    if data == reading.data:
        return reading.text
    different = list(changes(reading.data, data))
    if len(different) == 1 and reading.recipe is not None:
        text = patched(reading.text, reading.recipe, reading.data, different[0])
        if text is not None and (again := read(text)).recipe is not None and again.data == data:
            return text
    return write_yaml(data)


def loses_comments(before: str, after: str) -> bool:
    """Whether a text has fewer comments than the one it was made from."""
    return len(_COMMENT.findall(after)) < len(_COMMENT.findall(before))


def absolute(text: str, folder: Path) -> str:
    """The text with every model below `folder` named by its whole path, where it was named by a relative one.

    Comments and order stay. What is not there, or is named in another way, is left as it is.
    """
    reading = read(text)
    if reading.recipe is None:
        return text
    for source in sorted(reading.recipe.sources(), key=len, reverse=True):
        named = whole(source, folder)
        if named != source:
            # A path may hold a backslash, which a replacement text would read as an escape.
            text = named.join(re.split(rf"(?<![\w./+-]){re.escape(source)}(?![\w./+-])", text))
    return text


def whole(source: str, folder: Path) -> str:
    """A source with its paths written out, where they exist below `folder` or at home."""
    return "+".join(_whole(part, folder) for part in source.split("+"))


def _whole(part: str, folder: Path) -> str:
    path = Path(part) if part.startswith("~") else folder / part
    return part if Path(part).is_absolute() or not exists(path) else str(path.expanduser().resolve())


def exists(path: Path) -> bool:
    """Whether there is such a path; not where it is no possible one, or its home is unknown."""
    try:
        return path.expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False
