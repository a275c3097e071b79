"""Two recipes, setting by setting, and two merges, tensor by tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan, sqrt
from pathlib import Path
from typing import Any

from merging.checkpoint.shards import open_checkpoint
from merging.checkpoint.tensors import Checkpoint, TensorSpec
from merging.engine.verify import record_of
from merging.errors import MergingError
from merging.lazy import torch
from merging.methods.declare import find_method
from merging.methods.parameters import REQUIRED
from merging.recipe.recipe import Recipe
from merging.recipe.text import read_recipe, write_yaml

# Entries that are compared at once.
BLOCK = 1 << 22


@dataclass(frozen=True)
class Difference:
    """A setting in which two recipes differ; None where one of them lacks it."""

    path: str
    left: Any
    right: Any


def compare_recipes(a: str, b: str) -> list[Difference]:
    """The settings in which two recipes (text or files) differ in meaning; empty when they ask for the same merge.

    Order of keys, comments and spelling of numbers do not count, nor does a default that is written out. Models are
    paired by name, so that one more model is one line. Raises RecipeError when one of them cannot be read.
    """
    left, right = (_flat(read_recipe(text, lenient=True)) for text in (a, b))
    paths = dict.fromkeys((*left, *right))
    return [Difference(path, left.get(path), right.get(path)) for path in paths if left.get(path) != right.get(path)]


def _flat(recipe: Recipe) -> dict[str, Any]:
    data = recipe.data()
    flat: dict[str, Any] = {}
    for name, value in _defaults(recipe).items():
        flat[f"parameters.{name}"] = value
    for key, value in data.items():
        if key == "models":
            names = _names(value)
            flat["models"] = names
            for name, entry in zip(names, value, strict=True):
                _spread({field: held for field, held in entry.items() if field != "model"}, f"models[{name}]", flat)
        else:
            _spread(value, key, flat)
    return flat


def _names(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The models of a list; one that stands there again with its number."""
    seen: Counter[str] = Counter()
    names = []
    for entry in entries:
        name = str(entry["model"])
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names


def _defaults(recipe: Recipe) -> dict[str, Any]:
    """What holds where the recipe says nothing at all about a parameter."""
    try:
        parameters = find_method(recipe.method).parameters
    except MergingError:
        return {}
    named = {name for _, block, _ in recipe.blocks() for name in block}
    return {
        name: knob.default
        for name, knob in parameters.items()
        if name not in named and knob.default is not REQUIRED and knob.default is not None
    }


def _spread(value: Any, path: str, flat: dict[str, Any]) -> None:
    """Every leaf under its path; conditions under their filters, other lists by position, gradients as they are."""
    if isinstance(value, Mapping):
        for key, held in value.items():
            _spread(held, f"{path}.{key}", flat)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for i, item in enumerate(value):
            if set(item) <= {"filter", "value"}:
                flat[path + (f"[{item['filter']}]" if "filter" in item else "")] = item["value"]
            else:
                _spread(item, f"{path}[{i}]", flat)
    else:
        flat[path] = value


@dataclass(frozen=True)
class Compared:
    """One tensor of two merges. Norms are of the stored entries, or of the change merged in, as the function says.

    `same` is True for equal bytes, dtype and shape. `distance` is |left - right| / |left|; nan where it was not taken:
    other shapes, a tensor that only one of them has, ledgers.
    """

    tensor: str
    same: bool
    left_norm: float
    right_norm: float
    distance: float = nan
    note: str = ""


def compare_ledgers(left: Iterable[Mapping[str, Any]], right: Iterable[Mapping[str, Any]]) -> list[Compared]:
    """Two merges by their ledgers' rows alone, in the order of the left one: no tensor is read.

    Norms are those of what was merged into each tensor. `same` compares digests; `note` says what was set differently.
    """
    first, second = ({str(row["tensor"]): row for row in rows if "tensor" in row} for rows in (left, right))
    return [_row(name, first.get(name), second.get(name)) for name in dict.fromkeys((*first, *second))]


def _row(name: str, a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> Compared:
    left, right = (float(nan if not row or row.get("merged_norm") is None else row["merged_norm"]) for row in (a, b))
    if a is None or b is None:
        return Compared(name, False, left, right, note="only in the " + ("left" if b is None else "right"))
    keys = ("digest", "span", "dtype", "shape")
    same = all(key in a and a[key] == b.get(key) for key in keys)
    set_otherwise = [key for key in ("rule", "method", "dtype", "shape") if a.get(key) != b.get(key)]
    one, other = a.get("parameters") or {}, b.get("parameters") or {}
    set_otherwise += [key for key in dict.fromkeys((*one, *other)) if one.get(key) != other.get(key)]
    return Compared(name, same, left, right, note=", ".join(set_otherwise))


def compare_merges(out_a: Path | str, out_b: Path | str) -> Iterator[Compared]:
    """Two checkpoints, tensor by tensor in the order of the first; both are read, block by block.

    Sums are taken in float64. Raises CheckpointError when one of them cannot be opened.
    """
    left, right = open_checkpoint(Path(out_a)), open_checkpoint(Path(out_b))
    return (_compared(name, left, right) for name in dict.fromkeys((*left.specs, *right.specs)))


def _compared(name: str, left: Checkpoint, right: Checkpoint) -> Compared:
    a, b = left.specs.get(name), right.specs.get(name)
    if a is None or b is None:
        return Compared(
            name, False, _norm(left, a), _norm(right, b), note="only in the " + ("left" if b is None else "right")
        )
    if a.shape != b.shape or not (a.is_float and b.is_float):
        return _without_distance(name, left, right, a, b)
    same, sums = a.dtype == b.dtype, [0.0, 0.0, 0.0]
    for start in range(0, a.length, BLOCK):
        stop = min(start + BLOCK, a.length)
        x, y = left.read(name, start, stop), right.read(name, start, stop)
        same = same and torch.equal(x.view(torch.uint8), y.view(torch.uint8))
        x, y = x.double(), y.double()
        for i, part in enumerate((x, y, x - y)):
            sums[i] += float(torch.dot(part, part))
    left_norm, right_norm, apart = map(sqrt, sums) if all(each == each for each in sums) else (nan, nan, nan)
    distance = apart / left_norm if left_norm else (0.0 if not apart else float("inf"))
    note = "" if a.dtype == b.dtype else f"{a.dtype}, {b.dtype}"
    return Compared(name, same, left_norm, right_norm, 0.0 if same else distance, note)


def _without_distance(name: str, left: Checkpoint, right: Checkpoint, a: TensorSpec, b: TensorSpec) -> Compared:
    """Other shapes, and tensors of whole numbers or codes, of which only the bytes can be compared."""
    alike = a.shape == b.shape and a.dtype == b.dtype
    same = alike and all(
        torch.equal(
            left.read(name, start, min(start + BLOCK, a.length)).contiguous().view(torch.uint8),
            right.read(name, start, min(start + BLOCK, a.length)).contiguous().view(torch.uint8),
        )
        for start in range(0, a.length, BLOCK)
    )
    note = "" if alike else f"{a.dtype} {list(a.shape)}, {b.dtype} {list(b.shape)}"
    return Compared(name, same, _norm(left, a), _norm(right, b), note=note)


def _norm(checkpoint: Checkpoint, spec: TensorSpec | None) -> float:
    if spec is None or not spec.is_float:
        return nan
    squares = 0.0
    for start in range(0, spec.length, BLOCK):
        block = checkpoint.read(spec.name, start, min(start + BLOCK, spec.length)).double()
        squares += float(torch.dot(block, block))
    return sqrt(squares)


def recorded_recipe(out: Path | str) -> str:
    """The recipe of a finished merge, from its record, as text. Raises VerificationError where there is none."""
    record, _ = record_of(Path(out))
    return write_yaml(record["recipe"])
