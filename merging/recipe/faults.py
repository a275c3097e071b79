"""Plain data held against a shape: everything that does not fit, each with its path.

Understands the part of JSON Schema that `merging.recipe.schema` uses, because importing a general validator would take
longer than all the rest of `merging check` (measured: 125 ms for pydantic and its models, 1 ms for this).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from merging.errors import nearest
from merging.recipe.recipe import KeyPath, Place, is_finite
from merging.recipe.schema import Shape

_TYPES: Mapping[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}
_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong at `path`, or at `place` where the text has no such path.

    `known` is filled for an unknown key: the keys that could stand there.
    """

    path: KeyPath
    what: str
    must_be: str | None = None
    fix: str | None = None
    known: tuple[str, ...] = ()
    place: Place | None = None


def find_faults(value: Any, shape: Shape, path: KeyPath = ()) -> list[Fault]:
    """Everything about `value` that does not fit `shape`, in the order of the text."""
    if "refused" in shape:
        return [] if value is None else [Fault(path, f"`{path[-1]}` is not supported", fix=shape["refused"])]
    if "anyOf" in shape:
        return _closest_branch(value, shape, path)
    if not _admits(shape, value):
        return [_wrong_type(value, shape, path)]
    if "enum" in shape and value not in shape["enum"]:
        return [_wrong_choice(value, shape, path)]
    match value:
        case dict():
            return _mapping_faults(value, shape, path)
        case list():
            return _list_faults(value, shape, path)
        case bool() | None:
            return []
        case str():
            return (
                [Fault(path, f"{_subject(path)} is empty", _must_be(shape))] if not _long_enough(value, shape) else []
            )
        case _:
            return [] if _within(value, shape) else [_wrong_type(value, shape, path)]


def _closest_branch(value: Any, shape: Shape, path: KeyPath) -> list[Fault]:
    branches = [branch for branch in shape["anyOf"] if _admits(branch, value)]
    if not branches:
        return [_wrong_type(value, shape, path)]
    # Which kind of list was meant is told by its items, before anything within them.
    fewest = min(_misfits(value, branch) for branch in branches)
    meant = [branch for branch in branches if _misfits(value, branch) == fewest]
    return min((find_faults(value, branch, path) for branch in meant), key=len)


def _misfits(value: Any, branch: Shape) -> int:
    return sum(not _admits(branch["items"], item) for item in value) if isinstance(value, list) else 0


def _admits(shape: Shape, value: Any) -> bool:
    if "anyOf" in shape:
        return any(_admits(branch, value) for branch in shape["anyOf"])
    names = [shape["type"]] if isinstance(shape["type"], str) else shape["type"]
    if isinstance(value, bool):  # an int to Python, and not a number to anybody else
        return "boolean" in names
    return any(isinstance(value, _TYPES[name]) for name in names)


def _within(value: float, shape: Shape) -> bool:
    inside: bool = shape.get("minimum", value) <= value <= shape.get("maximum", value)
    return is_finite(value) and inside


def _long_enough(value: str | list[Any], shape: Shape) -> bool:
    enough: bool = len(value) >= shape.get("minLength" if isinstance(value, str) else "minItems", 0)
    return enough


def _mapping_faults(value: Mapping[str, Any], shape: Shape, path: KeyPath) -> list[Fault]:
    properties, additional = shape["properties"], shape["additionalProperties"]
    faults = [
        Fault(path, f"{_subject(path)} lacks `{key}`", must_be=_must_be(properties[key]), fix=f"add a line `{key}: …`")
        for key in shape.get("required", ())
        if key not in value
    ]
    for key, content in value.items():
        within = (*path, key)
        if key in properties:
            faults += find_faults(content, properties[key], within)
        elif additional is False:
            faults.append(_unknown_key(within, [name for name in properties if "refused" not in properties[name]]))
        else:
            faults += find_faults(content, additional, within)
    return faults


def _unknown_key(path: KeyPath, known: list[str]) -> Fault:
    close = nearest(str(path[-1]), known, count=1)
    fix = f"did you mean {close[0]!r}?" if close else "known here: " + ", ".join(known)
    return Fault(path, f"unknown key {path[-1]!r}", fix=fix, known=tuple(known))


def _list_faults(value: list[Any], shape: Shape, path: KeyPath) -> list[Fault]:
    if not _long_enough(value, shape) or len(value) > shape.get("maxItems", len(value)):
        what = f"{_subject(path)} cannot be {_shown(value)}" if value else f"{_subject(path)} is an empty list"
        return [Fault(path, what, must_be=_must_be(shape))]
    return [fault for i, item in enumerate(value) for fault in find_faults(item, shape["items"], (*path, i))]


def _wrong_type(value: Any, shape: Shape, path: KeyPath) -> Fault:
    if value is None:
        return Fault(path, f"{_subject(path)} is empty", must_be=_must_be(shape))
    quote = "put it in quotes" if not isinstance(value, dict | list) and _admits(shape, "") else None
    return Fault(path, f"{_subject(path)} cannot be {_shown(value)}", must_be=_must_be(shape), fix=quote)


def _wrong_choice(value: Any, shape: Shape, path: KeyPath) -> Fault:
    choices = [choice for choice in shape["enum"] if choice is not None]
    meant = shape.get("synonyms", {}).get(str(value).lower().removeprefix("torch."))
    close = [meant] if meant else nearest(str(value), choices, count=1)
    return Fault(
        path,
        f"{_subject(path)} cannot be {_shown(value)}",
        must_be=_must_be(shape),
        fix=f"did you mean {close[0]!r}?" if close else None,
    )


def _must_be(shape: Shape) -> str | None:
    if "must_be" in shape:
        return str(shape["must_be"])
    return "one of " + ", ".join(shape["enum"]) if "enum" in shape else None


def _subject(path: KeyPath) -> str:
    """What a sentence about `path` speaks of: the nearest key, with list positions."""
    if not path:
        return "the recipe"
    names = [i for i, key in enumerate(path) if isinstance(key, str)]
    last = names[-1] if names else 0
    return "`" + str(path[last]) + "".join(f"[{key}]" for key in path[last + 1 :]) + "`"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"
