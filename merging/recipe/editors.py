"""The JSON Schema of recipes with every declared method's parameters, for editors to complete and check against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from merging.methods.declare import Method, all_methods
from merging.methods.parameters import REQUIRED, Parameter
from merging.recipe.schema import RECIPE, Shape, parameters, setting

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_OWN_KEYWORDS = ("must_be", "refused", "synonyms")
# A number may also be written as text, because YAML reads 1e-3 as text.
_NUMBER_AS_TEXT = {"type": "string", "pattern": r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"}


def recipe_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a recipe: its shape, and the parameters of each method with their bounds and scope."""
    methods = all_methods()
    shape = _standard(RECIPE)
    names = {name: method for method in methods.values() for name in (method.name, *method.aliases)}
    shape["properties"]["merge_method"] |= {
        "anyOf": [{"const": name, "description": method.summary} for name, method in sorted(names.items())]
    }
    knobs = {
        _defined(method, name): _standard(_knob(knob))
        for method in methods.values()
        for name, knob in method.parameters.items()
    }
    return {
        "$schema": _DRAFT,
        "title": "Merge recipe",
        **shape,
        "oneOf": [{"required": [key], "properties": {key: {"type": "array"}}} for key in ("models", "slices")],
        "allOf": [_standard(_when(method)) for method in methods.values()],
        "$defs": knobs,
    }


def _defined(method: Method, name: str) -> str:
    return f"{method.name}.{name}"


def _when(method: Method) -> Shape:
    """A recipe of this method holds only its parameters, each where it may stand."""
    every = {name: {"$ref": f"#/$defs/{_defined(method, name)}"} for name in method.parameters}
    own = {name: every[name] for name, knob in method.parameters.items() if knob.kind.per_model}
    shared = {"parameters": parameters(False, every)}
    of_one = {"items": {"properties": {"parameters": parameters(False, own)}}}
    of_slice = {"items": {"properties": {"sources": of_one, **shared}}}
    return {
        "if": {"properties": {"merge_method": {"enum": [method.name, *method.aliases]}}, "required": ["merge_method"]},
        "then": {"properties": {**shared, "models": of_one, "slices": of_slice}},
    }


def _knob(knob: Parameter) -> Shape:
    kind = knob.kind
    bounds = {key: bound for key, bound in (("minimum", kind.minimum), ("maximum", kind.maximum)) if bound is not None}
    number: Shape = {"type": "integer" if kind.type == "count" else "number", **bounds}
    scalar: Shape
    match kind.type:
        case "flag":
            # Published recipes write `normalize: 1.0`.
            scalar = {"enum": [True, False, 0, 1]}
        case "choice":
            scalar = {"enum": list(kind.choices)}
        case _:
            scalar = {"anyOf": [number, _NUMBER_AS_TEXT]}
    default = {} if knob.default is REQUIRED else {"default": knob.default}
    return {**setting(scalar), "description": f"{knob.says or knob.name}: {kind.describe()}.", **default}


def _standard(shape: Any) -> Any:
    """The shape without the keywords of our own; a refused key admits null and says why."""
    if isinstance(shape, list | tuple):
        return [_standard(item) for item in shape]
    if not isinstance(shape, Mapping):
        return shape
    plain = {key: _standard(content) for key, content in shape.items() if key not in _OWN_KEYWORDS}
    if isinstance(shape.get("refused"), str):
        plain["description"] = "Not supported: " + shape["refused"]
    return plain
