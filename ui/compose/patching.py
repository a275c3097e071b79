"""Changing one value in the text of a recipe, so that its comments and its order stay.

Every way of changing the text is only an attempt: what reads the result decides whether it says what it should.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from merging import Recipe, write_yaml

_SCALAR = re.compile(r"[^\s,#\[\]{}]+")


class Change(NamedTuple):
    """One place where two recipes differ; None stands for nothing."""

    path: tuple[Any, ...]
    old: Any
    new: Any


def changes(old: Any, new: Any, path: tuple[Any, ...] = ()) -> Iterator[Change]:
    """Where two pieces of data differ, as far inside as both have the same keys and lengths."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from changes(old.get(key), new.get(key), (*path, key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from changes(left, right, (*path, i))
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield Change(path, old, new)


def patched(text: str, recipe: Recipe, data: Mapping[str, Any], change: Change) -> str | None:
    """The text with one key changed, taken out or put in; None where the text is not written in a way for that."""
    path, old, new = change
    if path == ("models",) and isinstance(old, list) and isinstance(new, list):
        return _relisted(text.splitlines(keepends=True), recipe, old, new)
    if not path or not isinstance(path[-1], str):
        return None
    lines = text.splitlines(keepends=True)
    if old is None:
        return _put_in(lines, recipe, data, path, new)
    place = recipe.places.get(path)
    if place is None:
        return None
    line, start = place.line - 1, place.column - 1
    if new is None:
        return _taken_out(lines, line, start)
    return _replaced(lines, line, start, path[-1], new)


def _replaced(lines: list[str], line: int, start: int, key: str, new: Any) -> str | None:
    """Another scalar in the place of a scalar."""
    before = re.match(rf"{re.escape(key)}\s*:\s+", lines[line][start:])
    if before is None or isinstance(new, list | dict):
        return None
    start += before.end()
    token = _SCALAR.match(lines[line], start)
    if token is None:
        return None
    fresh = write_yaml({"x": new}).removeprefix("x: ").rstrip("\n")
    lines[line] = lines[line][:start] + fresh + lines[line][token.end() :]
    return "".join(lines)


def _taken_out(lines: list[str], line: int, start: int) -> str | None:
    """The line of a key and the deeper ones below it gone."""
    if lines[line][:start].strip():
        return None
    end = line + 1
    while end < len(lines) and _indent(lines[end]) > start:
        end += 1
    return "".join(lines[:line] + lines[end:])


def _put_in(lines: list[str], recipe: Recipe, data: Mapping[str, Any], path: tuple[Any, ...], new: Any) -> str | None:
    """A key after the last one of its block that is written on one line; at the end where it is the recipe's own."""
    block: Any = data
    for step in path[:-1]:
        block = block[step]
    fresh = write_yaml({path[-1]: new})
    if len(path) == 1:
        ended = bool(lines) and not lines[-1].endswith("\n")
        return "".join(lines) + ("\n" if ended else "") + fresh
    single = [key for key, value in block.items() if not isinstance(value, list | dict)]
    places = [recipe.places[(*path[:-1], key)] for key in single if (*path[:-1], key) in recipe.places]
    if not places:
        return None
    last = max(places, key=lambda place: (place.line, place.column))
    indented = "".join(f"{' ' * (last.column - 1)}{each}\n" for each in fresh.splitlines())
    separator = "" if lines[last.line - 1].endswith("\n") else "\n"
    return "".join([*lines[: last.line], separator, indented, *lines[last.line :]])


def _relisted(lines: list[str], recipe: Recipe, old: list[Any], new: list[Any]) -> str | None:
    """One model more at the end of the list, or one less."""
    places = [recipe.places.get(("models", i)) for i in range(len(old))]
    if len({place.line for place in places if place}) < len(old):
        return None
    spans = [_item(lines, place.line - 1, place.column - 1) for place in places if place]
    if new[:-1] == old:
        end = spans[-1][1]
        dash = _indent(lines[spans[-1][0]])
        fresh = write_yaml({"models": new[-1:]}).splitlines(keepends=True)[1:]
        ended = "" if lines[end - 1].endswith("\n") else "\n"
        return "".join([*lines[:end], ended, *(f"{' ' * dash}{each}" for each in fresh), *lines[end:]])
    gone = next((i for i in range(len(old)) if old[:i] + old[i + 1 :] == new), None)
    return None if gone is None else "".join(lines[: spans[gone][0]] + lines[spans[gone][1] :])


def _item(lines: list[str], line: int, start: int) -> tuple[int, int]:
    """The lines of an item whose content begins there: those that are indented as deep."""
    end = line + 1
    while end < len(lines) and _indent(lines[end]) >= start and lines[end].strip():
        end += 1
    return line, end


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
