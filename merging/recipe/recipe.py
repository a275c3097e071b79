"""What the user asked for, as a value with one canonical form.

A recipe names checkpoints, a method and its parameters. Models that span all layers stand in `models`; stacks of layers
stand in `slices`; exactly one of the two is filled. Where the recipe was read from text, every field has a place.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from merging.errors import ParameterError, RecipeError

Scalar: TypeAlias = bool | int | float | str
Key: TypeAlias = str | int
KeyPath: TypeAlias = tuple[Key, ...]

# Names of the dialect for the dtypes a recipe may ask for; the values are safetensors names.
DTYPE_NAMES: Mapping[str, str] = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}

_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in the recipe's text; both count from 1."""

    line: int
    column: int


Places: TypeAlias = Mapping[KeyPath, Place]


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, or a gradient over the layers, for the tensors whose name contains `filter` (None: for all).

    One form for one meaning: text that spells a number becomes it, a gradient of one value is that value, and the
    filters "*" and "" are None.

    >>> Setting(("1e-3",), filter="*")
    Setting(value=0.001, filter=None)
    """

    value: Scalar | tuple[Scalar, ...]
    filter: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.value, tuple):
            if not self.value:
                raise ParameterError("a gradient over the layers is empty", must_be="one or more values")
            values = tuple(_canonical(value) for value in self.value)
            object.__setattr__(self, "value", values if len(values) > 1 else values[0])
        else:
            object.__setattr__(self, "value", _canonical(self.value))
        if self.filter in ("*", ""):
            object.__setattr__(self, "filter", None)

    def matches(self, tensor: str) -> bool:
        """Whether the setting speaks about the tensor of this name."""
        return self.filter is None or self.filter in tensor


def is_finite(value: float) -> bool:
    """Whether a number is one that float64 can hold; an int of any length may ask."""
    return abs(value) <= sys.float_info.max


def _canonical(value: Scalar) -> Scalar:
    if isinstance(value, str):
        if _WHOLE.fullmatch(value):
            return int(value)
        if _NUMBER.fullmatch(value) and is_finite(float(value)):
            return float(value)
    elif not is_finite(value):
        raise ParameterError(f"a parameter cannot be {value}", must_be="a finite number")
    return value


Parameters: TypeAlias = Mapping[str, tuple[Setting, ...]]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model of `models`, with the parameter values that hold for it alone.

    `companions` are checkpoints of statistics that a method asks for, by the names it gives them.
    """

    source: str
    parameters: Parameters = field(default_factory=dict)
    companions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SliceSource:
    """Layers [first, last) of one model."""

    source: str
    layers: tuple[int, int]
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of output layers, merged from equally many layers of each source."""

    sources: tuple[SliceSource, ...]
    parameters: Parameters = field(default_factory=dict)
    base_model: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A merge as asked for: checkpoints, method, parameters, dtypes.

    `dtype` and `out_dtype` are safetensors names. `missing_tensors` says what happens where an input lacks a tensor
    that the others have, `extra_tensors` what happens to a tensor that only some inputs have. `seed` addresses the
    random numbers of methods that use them. `file`, `places` and `ignored` (unknown keys passed over on request) tell
    where the recipe came from and take no part in equality.
    """

    method: str
    models: tuple[ModelEntry, ...] = ()
    slices: tuple[Slice, ...] = ()
    base_model: str | None = None
    parameters: Parameters = field(default_factory=dict)
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: str | None = None
    missing_tensors: Literal["refuse", "base"] = "refuse"
    extra_tensors: Literal["refuse", "drop", "copy"] = "refuse"
    seed: int = 0
    file: str | None = field(default=None, compare=False)
    places: Places = field(default_factory=dict, compare=False, repr=False)
    ignored: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if bool(self.models) == bool(self.slices):
            raise RecipeError(
                "a recipe names its inputs once", where=self.file, must_be="either `models` or `slices`, not empty"
            )

    def where(self, *path: Key) -> str:
        """The place of a field, or of the nearest enclosing one: "math.yaml line 14, column 3, models[1]"."""
        return spell_place(self.file, self.places, path)

    def mentions(self) -> Iterator[tuple[KeyPath, str]]:
        """Every naming of a model with its path: inputs first, then base models."""
        for i, entry in enumerate(self.models):
            yield ("models", i, "model"), entry.source
            yield from ((("models", i, "companions", name), path) for name, path in entry.companions.items())
        for i, piece in enumerate(self.slices):
            yield from ((("slices", i, "sources", k, "model"), each.source) for k, each in enumerate(piece.sources))
        if self.base_model is not None:
            yield ("base_model",), self.base_model
        for i, piece in enumerate(self.slices):
            if piece.base_model is not None:
                yield ("slices", i, "base_model"), piece.base_model

    def sources(self) -> tuple[str, ...]:
        """Every model the recipe names, once, in order of mention."""
        return tuple(dict.fromkeys(source for _, source in self.mentions()))

    def where_source(self, source: str) -> str:
        """The place where a model is first named."""
        return next((self.where(*path) for path, named in self.mentions() if named == source), self.where())

    def blocks(self) -> Iterator[tuple[KeyPath, Parameters, bool]]:
        """Every `parameters` block: its path, its content, and whether it belongs to one model."""
        for i, entry in enumerate(self.models):
            yield ("models", i, "parameters"), entry.parameters, True
        for i, piece in enumerate(self.slices):
            for k, source in enumerate(piece.sources):
                yield ("slices", i, "sources", k, "parameters"), source.parameters, True
            yield ("slices", i, "parameters"), piece.parameters, False
        yield ("parameters",), self.parameters, False

    def data(self) -> dict[str, Any]:
        """The canonical recipe as JSON data, in the dialect's own keys; what is left at its default is left out."""
        data: dict[str, Any] = {}
        if self.models:
            data["models"] = [_entry_data(entry) for entry in self.models]
        if self.slices:
            data["slices"] = [_slice_data(piece) for piece in self.slices]
        data["merge_method"] = self.method
        if self.base_model is not None:
            data["base_model"] = self.base_model
        data |= _block(self.parameters)
        for key, name in (("dtype", self.dtype), ("out_dtype", self.out_dtype)):
            if name is not None:
                data[key] = next(spelled for spelled, known in DTYPE_NAMES.items() if known == name)
        if self.tokenizer_source is not None:
            data["tokenizer_source"] = self.tokenizer_source
        for key, value, default in (
            ("missing_tensors", self.missing_tensors, "refuse"),
            ("extra_tensors", self.extra_tensors, "refuse"),
            ("seed", self.seed, 0),
        ):
            if value != default:
                data[key] = value
        return data

    def text(self) -> str:
        """The recipe as YAML that reads back equal."""
        from merging.recipe.text import write_yaml

        return write_yaml(self.data())


def _entry_data(entry: ModelEntry) -> dict[str, Any]:
    companions = {"companions": dict(entry.companions)} if entry.companions else {}
    return {"model": entry.source, **companions, **_block(entry.parameters)}


def _slice_data(piece: Slice) -> dict[str, Any]:
    sources = [
        {"model": source.source, "layer_range": list(source.layers), **_block(source.parameters)}
        for source in piece.sources
    ]
    base = {} if piece.base_model is None else {"base_model": piece.base_model}
    return {"sources": sources, **base, **_block(piece.parameters)}


def _block(parameters: Parameters) -> dict[str, Any]:
    return {"parameters": {name: _settings_data(parameters[name]) for name in parameters}} if parameters else {}


def _settings_data(settings: tuple[Setting, ...]) -> Any:
    values = [list(setting.value) if isinstance(setting.value, tuple) else setting.value for setting in settings]
    if len(settings) == 1 and settings[0].filter is None:
        return values[0]
    return [
        {"value": value} if setting.filter is None else {"filter": setting.filter, "value": value}
        for setting, value in zip(settings, values, strict=True)
    ]


def spell_place(file: str | None, places: Places, path: KeyPath) -> str:
    """A place as an error says it; the nearest enclosing place where `path` itself has none."""
    known = path
    while places and known and known not in places:
        known = known[:-1]
    spelled = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in known).removeprefix(".")
    if known not in places:
        return ", ".join(part for part in (file, spelled) if part) or "the recipe"
    place = places[known]
    position = f"{file or 'recipe'} line {place.line}, column {place.column}"
    return f"{position}, {spelled}" if spelled else position
