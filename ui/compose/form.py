"""What the form shows of a recipe, and what a change of the form does to it.

A recipe is its plain data, `Recipe.data()`. The form shows the part that it can express; every change acts on the data
and leaves the rest of it alone, so that nothing is lost that a person wrote by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from merging import Method, all_methods
from ui.fields import accepted, spelled

Data: TypeAlias = dict[str, Any]
DTYPES = ("bfloat16", "float16", "float32", "float64")
# In the order of a recipe.
_KEYS = (
    *("models", "slices", "merge_method", "base_model", "parameters", "dtype", "out_dtype", "tokenizer_source"),
    *("missing_tensors", "extra_tensors", "seed"),
)
_LINE = ("model", "companions", "parameters")
DEFAULTS: Mapping[str, Any] = {"missing_tensors": "refuse", "extra_tensors": "refuse", "seed": 0}


@dataclass(frozen=True)
class Entry:
    """One model: where it is, the values that hold for it alone, its statistics."""

    source: str
    values: Mapping[str, Any] = field(default_factory=dict)
    companions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Form:
    """What the form shows: only values that stand in the recipe, in their parameters' own types."""

    method: str
    base: str | None = None
    models: tuple[Entry, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    dtype: str | None = None
    tokenizer: str | None = None
    missing_tensors: str = "refuse"
    extra_tensors: str = "refuse"
    seed: int = 0


def method_of(data: Mapping[str, Any]) -> Method | None:
    """The method that a recipe names, by whichever of its names; None where there is none of that name."""
    name = data.get("merge_method")
    return next((each for each in all_methods().values() if name in (each.name, *each.aliases)), None)


def show(data: Mapping[str, Any]) -> Form:
    """What the form can show of a recipe whose method exists."""
    method = method_of(data)
    assert method
    return Form(
        method=method.name,
        base=data.get("base_model"),
        models=tuple(
            Entry(each["model"], _shown(method, each.get("parameters"), own=True), dict(each.get("companions") or {}))
            for each in data.get("models") or ()
        ),
        values=_shown(method, data.get("parameters"), own=False),
        dtype=data.get("out_dtype") or data.get("dtype"),
        tokenizer=data.get("tokenizer_source"),
        **{key: data.get(key, default) for key, default in DEFAULTS.items()},
    )


def _shown(method: Method, block: Mapping[str, Any] | None, own: bool) -> dict[str, Any]:
    found = {name: accepted(method, name, value) for name, value in (block or {}).items()}
    return {
        name: value
        for name, value in found.items()
        if value is not None and (method.parameters[name].kind.per_model or not own)
    }


def written(form: Form) -> Data:
    """The recipe that a form alone makes."""
    data: Data = {
        "models": [
            _tidy({"model": each.source, "companions": dict(each.companions), "parameters": dict(each.values)}, _LINE)
            for each in form.models
        ],
        "merge_method": form.method,
        "base_model": form.base,
        "parameters": dict(form.values),
        "dtype": form.dtype,
        "tokenizer_source": form.tokenizer,
        **{key: getattr(form, key) for key in DEFAULTS},
    }
    return _tidy(data, _KEYS)


def _tidy(data: Mapping[str, Any], keys: Sequence[str]) -> Data:
    """The keys in order, without those that say nothing."""
    known = {**{key: data[key] for key in keys if key in data}, **data}
    return {
        key: value
        for key, value in known.items()
        if value is not None and value != {} and value != [] and value != DEFAULTS.get(key)
    }


def kept(data: Mapping[str, Any]) -> list[str]:
    """What the form cannot show and keeps as it is written."""
    found = ["slices"] if data.get("slices") else []
    method = method_of(data)
    blocks = {"": data, **{f" of model {i + 1}": each for i, each in enumerate(data.get("models") or ())}}
    for owner, block in blocks.items():
        shown = _shown(method, block.get("parameters"), own=bool(owner)) if method else {}
        found += [
            f"{name}{owner} ({_spell(value)})"
            for name, value in (block.get("parameters") or {}).items()
            if name not in shown
        ]
    return found


def _spell(value: Any) -> str:
    if not isinstance(value, list):
        return spelled(value)
    return "conditions" if any(isinstance(each, dict) for each in value) else "a gradient"


def with_key(data: Mapping[str, Any], key: str, value: Any) -> Data:
    """The recipe with one of its own lines changed; None takes the line out."""
    return _tidy({**data, key: value}, _KEYS)


def with_dtype(data: Mapping[str, Any], dtype: str | None) -> Data:
    """The recipe with another output dtype, on the line that decides it."""
    if dtype is None:
        return with_key(with_key(data, "out_dtype", None), "dtype", None)
    return with_key(data, "out_dtype" if "out_dtype" in data else "dtype", dtype)


def with_value(data: Mapping[str, Any], name: str, value: Any, model: int | None = None) -> Data:
    """The recipe with a parameter set, for one model or all; None, or the default for all, takes the line out.

    A value that the form cannot show, such as a gradient, is taken out only for a value in its place.
    """
    method = method_of(data)
    changed = deepcopy(dict(data))
    line = changed if model is None else changed["models"][model]
    block = dict(line.get("parameters") or {})
    # What no model has for itself is the default where nothing is written.
    default = method.defaults().get(name) if method and model is None else None
    if value is None or value == default:
        if value is not None or (method and accepted(method, name, block.get(name)) is not None):
            block.pop(name, None)
    elif not _same(block.get(name), value):
        block[name] = value
    line["parameters"] = block
    if model is not None:
        changed["models"][model] = _tidy(line, _LINE)
    return _tidy(changed, _KEYS)


def _same(written_value: Any, value: Any) -> bool:
    return isinstance(written_value, bool) == isinstance(value, bool) and bool(written_value == value)


def with_companion(data: Mapping[str, Any], model: int, name: str, source: str | None) -> Data:
    """The recipe with a model's statistics named, or not named any more."""
    changed = deepcopy(dict(data))
    line = changed["models"][model]
    line["companions"] = {**line.get("companions", {}), name: source}
    if not source:
        del line["companions"][name]
    changed["models"][model] = _tidy(line, _LINE)
    return changed


def with_model(data: Mapping[str, Any], source: str, at: int | None = None) -> Data:
    """The recipe with one more model, or with another source for the model at that place."""
    lines = deepcopy(list(data.get("models") or ()))
    if at is None:
        lines.append({"model": source})
    else:
        lines[at]["model"] = source
    return with_key(data, "models", lines)


def without_model(data: Mapping[str, Any], at: int) -> Data:
    """The recipe with one model less."""
    return with_key(data, "models", [each for i, each in enumerate(data["models"]) if i != at])


def moved(data: Mapping[str, Any], at: int, to: int) -> Data:
    """The recipe with a model at another place in the order, with all that is written about it."""
    lines = list(data["models"])
    lines.insert(to, lines.pop(at))
    return with_key(data, "models", lines)


def with_method(data: Mapping[str, Any], name: str) -> tuple[Data, list[str]]:
    """The recipe with another method, and what is left out because the method has no use for it."""
    method = all_methods()[name]
    lost: list[str] = []
    changed = deepcopy(dict(data))
    changed["merge_method"] = name
    for place, line, own in _lines(changed):
        block = line.get("parameters") or {}
        for parameter in list(block):
            if parameter not in method.parameters or (own and not method.parameters[parameter].kind.per_model):
                lost.append(f"{parameter} {_spell(block.pop(parameter))}{place}")
        if not block:
            line.pop("parameters", None)
    if _is_idle(method, changed):
        lost.append(f"the base model {changed.pop('base_model')}")
    return _tidy(changed, _KEYS), lost


def _is_idle(method: Method, data: Data) -> bool:
    """Whether a recipe names a base model that is neither merged nor asked for anything."""
    listed = [each["model"] for each in data.get("models") or ()]
    asked = "base" in (data.get("tokenizer_source"), data.get("missing_tensors"))
    return bool(
        listed and method.needs.base == "unused" and data.get("base_model") not in (None, *listed) and not asked
    )


def _lines(data: Data) -> list[tuple[str, Data, bool]]:
    """Everything that may hold parameters: what it is called, itself, whether it is one model's."""
    found: list[tuple[str, Data, bool]] = [("", data, False)]
    found += [(f" of model {i + 1}", each, True) for i, each in enumerate(data.get("models") or ())]
    for i, piece in enumerate(data.get("slices") or ()):
        found.append((f" of slice {i + 1}", piece, False))
        found += [(f" of a source of slice {i + 1}", each, True) for each in piece["sources"]]
    return found
