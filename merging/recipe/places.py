"""YAML read as plain data, every value with its place.

Reading is safe by construction: only YAML's own plain types are built, nesting and the number of values after expanding
aliases are bounded, and a key may stand only once in a block. What YAML 1.1 reads differently from how a person does
(octal, hexadecimal and base-60 numbers) is refused.
"""

from __future__ import annotations

import re
from typing import Any

from merging.errors import RecipeError
from merging.recipe.faults import Fault
from merging.recipe.recipe import KeyPath, Place, is_finite, spell_place

MOST_VALUES = 100_000
DEEPEST = 32
_LONGEST_INTEGER = 300  # digits; more would not fit float64

_TAG = "tag:yaml.org,2002:"
_AS_TEXT = ("str", "timestamp", "value", "merge")
_BOOLEANS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")


def parse_yaml(text: str, file: str | None = None) -> tuple[Any, dict[KeyPath, Place], list[Fault]]:
    """YAML as plain data, the place of every value by its path, and the faults of single keys and values.

    Raises RecipeError where the text is no YAML, holds several documents, or exceeds a bound.
    """
    import yaml

    # The scanner in C is 20 times faster; not every build of the library has it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_bounds(text, file, loader)
        node = yaml.compose(text, Loader=loader)
    except yaml.YAMLError as error:
        raise _syntax_problem(error, file) from None
    if node is None:
        raise RecipeError("the recipe is empty", where=file, must_be="lines such as `merge_method: linear`")
    reading = _Reading(file)
    return reading.value(node, (), 0), reading.places, reading.faults


def _check_bounds(text: str, file: str | None, loader: Any) -> None:
    """Walk the events, which needs no memory, before anything nested is built from them."""
    import yaml

    depth = documents = values = 0
    for event in yaml.parse(text, Loader=loader):
        values += isinstance(event, yaml.NodeEvent)
        if values > MOST_VALUES:
            raise _too_many(file)
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise RecipeError(
                    "several recipes in one file are not supported",
                    where=spell_place(file, {(): _place(event)}, ()),
                    must_be="one YAML document",
                    fix="write one file for each and name the output of one as a model of the next",
                )
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise _too_deep(file, _place(event))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _place(marked: Any) -> Place:
    return Place(marked.start_mark.line + 1, marked.start_mark.column + 1)


def _too_many(file: str | None) -> RecipeError:
    must_be = f"at most {MOST_VALUES:,} values after expanding aliases"
    return RecipeError("the recipe holds too many values", where=file, must_be=must_be)


def _too_deep(file: str | None, place: Place) -> RecipeError:
    where = spell_place(file, {(): place}, ())
    return RecipeError("the recipe is nested too deeply", where=where, must_be=f"at most {DEEPEST} levels")


def _syntax_problem(error: Exception, file: str | None) -> RecipeError:
    mark = getattr(error, "problem_mark", None)
    where = spell_place(file, {(): Place(mark.line + 1, mark.column + 1)}, ()) if mark else file
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    context = getattr(error, "context", None)
    fix = None
    if "cannot start any token" in reason:
        fix = "indent with spaces, never with tabs, and quote text that begins with a special character"
    elif "mapping values are not allowed" in reason:
        fix = "quote text that contains `: `, and give keys of one block the same indentation"
    elif "undefined alias" in reason or "undefined alias" in (context or ""):
        fix = "quote text that begins with `*`"
    return RecipeError(f"the recipe is not YAML: {reason}" + (f" ({context})" if context else ""), where=where, fix=fix)


class _Reading:
    """One walk over composed nodes; collects places and faults."""

    def __init__(self, file: str | None):
        self.file = file
        self.places: dict[KeyPath, Place] = {}
        self.faults: list[Fault] = []
        self._values = 0

    def value(self, node: Any, path: KeyPath, depth: int) -> Any:
        """The plain value of a node. An alias is expanded, and counted, wherever it stands."""
        self._values += 1
        if self._values > MOST_VALUES:
            raise _too_many(self.file)
        if depth > DEEPEST:
            raise _too_deep(self.file, _place(node))
        self.places.setdefault(path, _place(node))
        tag = node.tag.removeprefix(_TAG)
        if node.id == "mapping" and tag == "map":
            return self._mapping(node, path, depth)
        if node.id == "sequence" and tag == "seq":
            return [self.value(child, (*path, i), depth + 1) for i, child in enumerate(node.value)]
        if node.id == "scalar":
            return self._scalar(tag, node, path)
        return self._refuse_tag(node, path)

    def _mapping(self, node: Any, path: KeyPath, depth: int) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, place = key_node.value, _place(key_node)
            refused = self._refused_key(key_node, path)
            if refused:
                self.faults.append(refused)
            elif key in content:
                lines = f"it stands on lines {self.places[(*path, key)].line} and {place.line}"
                what = f"the key {key!r} stands twice in one block"
                self.faults.append(Fault((*path, key), what, must_be=f"written once; {lines}", place=place))
            else:
                self.places[(*path, key)] = place
                content[key] = self.value(value_node, (*path, key), depth + 1)
        return content

    def _refused_key(self, node: Any, path: KeyPath) -> Fault | None:
        tag = node.tag.removeprefix(_TAG)
        if tag == "merge":
            return Fault(path, "merge keys (`<<`) are not supported", fix="write the lines out", place=_place(node))
        if tag in _AS_TEXT:
            return None
        shown = node.value if isinstance(node.value, str) else "a list or a block"
        return Fault(path, f"{shown} is not a key", must_be="text", fix="put it in quotes", place=_place(node))

    def _scalar(self, tag: str, node: Any, path: KeyPath) -> Any:
        text: str = node.value
        if tag in _AS_TEXT:
            return text
        if tag == "null":
            return None
        if tag == "bool" and text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        if tag in ("int", "float"):
            return self._number(tag, node, path)
        return self._refuse_tag(node, path)

    def _number(self, tag: str, node: Any, path: KeyPath) -> int | float | None:
        text = node.value.replace("_", "")
        if tag == "int" and _DECIMAL.fullmatch(node.value) and len(text) < _LONGEST_INTEGER:
            return int(text)
        if tag == "float" and ":" not in text:
            try:
                number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
            except ValueError:
                number = float("nan")
            if is_finite(number):
                return number
        self.faults.append(
            Fault(
                path,
                f"{node.value[:60]} is not a number here",
                must_be="a finite number in decimal digits, without leading zeros",
                fix="put it in quotes if it is text",
                place=_place(node),
            )
        )
        return None

    def _refuse_tag(self, node: Any, path: KeyPath) -> None:
        what = f"the tag {node.tag.replace(_TAG, '!!')} is not allowed"
        must_be = "plain YAML: text, numbers, lists and blocks"
        self.faults.append(Fault(path, what, must_be=must_be, place=_place(node)))
