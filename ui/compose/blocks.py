"""Block weights of a recipe: read from it for the tensors at hand, changed, and written back as it says them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal, NamedTuple, TypeAlias

from merging import (
    BlockWeights,
    MergingError,
    Method,
    Recipe,
    Selection,
    block_settings,
    read_block_weights,
    read_curve,
)
from ui.compose.form import Data, method_of, with_value
from ui.fields import accepted, spelled

Operation: TypeAlias = Literal["set", "multiply", "add"]
OUTSIDE = "outside"
_VALUE = re.compile(r"\d+\.?\d*")


class Target(NamedTuple):
    """What is weighed: a parameter of one model, or of all where `model` is None."""

    parameter: str
    model: int | None


class Mark(NamedTuple):
    """What is selected and what is done to it; a curve is text, empty fields select all."""

    layers: tuple[int, int] | None
    parts: tuple[str, ...]
    pattern: str
    operation: Operation
    curve: str


def layered_parameters(method: Method) -> list[str]:
    """Parameters that are numbers with an effect, which a recipe may give another value in every tensor."""
    return [
        name
        for name, knob in method.parameters.items()
        if knob.kind.type == "number" and not knob.says.startswith("no effect")
    ]


def weights_of(recipe: Recipe, method: Method, target: Target, tensors: Sequence[Any]) -> BlockWeights | None:
    """The values that a recipe gives a parameter, tensor by tensor, as planning would; None where it gives none.

    Blocks whose tensors have different values are taken apart.
    """
    blocks = (
        [recipe.parameters] if target.model is None else [recipe.models[target.model].parameters, recipe.parameters]
    )
    written = [setting for block in blocks for setting in block.get(target.parameter, ())]
    plain = method.defaults().get(target.parameter)
    whole = BlockWeights.of(tensors, 0.0 if plain is None else float(plain))
    found: list[float] = []
    for each in tensors:
        setting = next((setting for setting in written if setting.matches(each.name)), None)
        if setting is None and plain is None:
            return None
        found.append(whole.plain if setting is None else _at(setting.value, each, whole.depths))
    return _gathered(whole, found)


def _at(value: Any, tensor: Any, depths: Mapping[str, int]) -> float:
    points = [float(each) for each in (value if isinstance(value, tuple) else (value,))]
    last = depths.get(tensor.stack, 1) - 1
    fraction = 0.0 if tensor.layer is None else tensor.layer / last if last else 1.0
    return float(read_curve(",".join(map(repr, points))).at(fraction))


def _gathered(whole: BlockWeights, found: Sequence[float]) -> BlockWeights:
    inside = [{found[i] for i in block.tensors} for block in whole.blocks]
    if all(len(values) == 1 for values in inside):
        return BlockWeights(whole.tensors, tuple(values.pop() for values in inside), whole.plain)
    fine = whole.refined()
    return BlockWeights(fine.tensors, tuple(found[block.tensors[0]] for block in fine.blocks), fine.plain, "tensor")


def selected(weights: BlockWeights, mark: Mark) -> tuple[BlockWeights, Selection, int, int]:
    """The weights, taken apart where the pattern asks for it, the selection, and its tensors and entries.

    Raises MergingError for a pattern that is no regular expression.
    """
    layers = () if mark.layers is None else (mark.layers,)
    selection = Selection(layers=layers, parts=mark.parts, pattern=mark.pattern or None)  # type: ignore[arg-type]
    try:
        found = weights.select(selection)
    except MergingError:
        if weights.by == "tensor":
            raise
        weights = weights.refined()
        found = weights.select(selection)
    return weights, selection, found.tensors, found.entries


def marked(weights: BlockWeights, mark: Mark) -> BlockWeights:
    """The weights after an operation on what is selected. Raises MergingError."""
    curve = read_curve(mark.curve)
    weights, selection, tensors, _ = selected(weights, mark)
    if not tensors:
        raise MergingError("nothing is selected", must_be="layers, parts or a pattern that some tensors answer to")
    change = {"set": weights.set, "multiply": weights.multiply, "add": weights.add}[mark.operation]
    return change(selection, curve)


def from_line(line: str, weights: BlockWeights) -> BlockWeights:
    """The weights that a line of text says, such as "0; attention=0,1". Raises MergingError."""
    try:
        return read_block_weights(line, weights.tensors, plain=weights.plain)
    except MergingError:
        # A pattern may tell tensors of one block apart.
        return read_block_weights(line, weights.tensors, plain=weights.plain, by="tensor")


def scaled(preset: str, unit: float) -> str:
    """A preset's line with its values, which are shares, times `unit`.

    >>> scaled("0,1; outer head norm?=1", 0.5)
    '0,0.5; outer head norm?=0.5'
    """
    return _VALUE.sub(lambda found: f"{float(found[0]) * unit:.12g}", preset)


def table(weights: BlockWeights) -> list[dict[str, Any]]:
    """Values by layer, a column for every part; of tensors with different values in one block their mean."""
    found: dict[tuple[str, int | None], dict[str, list[float]]] = {}
    for block, value in zip(weights.blocks, weights.values, strict=True):
        row = found.setdefault((block.stack, block.layer), {})
        row.setdefault(block.part, []).append(weights.plain if value is None else value)
    parts = [part for part in _PARTS if any(part in row for row in found.values())]
    several = len({stack for stack, _ in found}) > 1
    return [
        {
            "layer": " ".join(
                each for each in (stack if several else "", OUTSIDE if layer is None else str(layer)) if each
            ),
            **{part: sum(row[part]) / len(row[part]) if part in row else None for part in parts},
        }
        for (stack, layer), row in sorted(found.items(), key=lambda each: _order(each[0]))
    ]


_PARTS = ("embedding", "attention", "mlp", "norm", "other", "head")


def _order(key: tuple[str, int | None]) -> tuple[int, str, int]:
    stack, layer = key
    return (layer is None, stack, layer or 0)


def edited(weights: BlockWeights, rows: Mapping[int, Mapping[str, float | None]]) -> BlockWeights:
    """The weights with cells of the table changed; an empty cell is plain again."""
    keys = sorted({(block.stack, block.layer) for block in weights.blocks}, key=_order)
    values = list(weights.values)
    for row, cells in rows.items():
        for i, block in enumerate(weights.blocks):
            if (block.stack, block.layer) == keys[row] and block.part in cells:
                value = cells[block.part]
                values[i] = None if value is None else float(value)
    return BlockWeights(weights.tensors, tuple(values), weights.plain, weights.by)


def places(weights: BlockWeights) -> list[tuple[str, int] | None]:
    """Curve and layer of every block, None outside the layers; a curve is a part, of its stack if there are several."""
    several = len({block.stack for block in weights.blocks}) > 1
    return [
        None
        if block.layer is None
        else (f"{block.stack} {block.part}" if several and block.stack else block.part, block.layer)
        for block in weights.blocks
    ]


def curves(weights: BlockWeights) -> list[dict[str, Any]]:
    """Points of the chart: the value of every part in every layer."""
    points: dict[tuple[str, int], list[float]] = {}
    for place, value in zip(places(weights), weights.values, strict=True):
        if place is not None:
            points.setdefault(place, []).append(weights.plain if value is None else value)
    return [
        {"part": part, "layer": layer, "value": sum(values) / len(values)}
        for (part, layer), values in sorted(points.items(), key=lambda each: each[0][1])
    ]


def with_weights(data: Mapping[str, Any], target: Target, weights: BlockWeights) -> Data:
    """The recipe that says these weights. Raises MergingError for values that the method refuses."""
    method = method_of(data)
    assert method
    knob = method.parameters[target.parameter]
    written = block_settings(weights)
    # What is written may pass through points between layers that no layer has.
    values = {weights.plain if value is None else value for value in weights.values} | set(_points(written))
    refused = sorted(value for value in values if accepted(method, target.parameter, value) is None)
    if refused:
        raise MergingError(
            f"{target.parameter} cannot be {spelled(refused[-1])}",
            must_be=knob.kind.describe(),
            fix="choose another curve",
        )
    if not isinstance(written, list):
        return with_value(data, target.parameter, written, target.model)
    changed = deepcopy(dict(data))
    line = changed if target.model is None else changed["models"][target.model]
    line.setdefault("parameters", {})[target.parameter] = written
    return changed


def _points(written: Any) -> Iterator[float]:
    for each in written if isinstance(written, list) else [written]:
        if isinstance(each, dict):
            yield from _points(each["value"])
        else:
            yield each


def without_weights(data: Mapping[str, Any], target: Target) -> Data:
    """The recipe that says nothing of the parameter there."""
    changed = deepcopy(dict(data))
    line = changed if target.model is None else changed["models"][target.model]
    block = line.get("parameters") or {}
    block.pop(target.parameter, None)
    if not block:
        line.pop("parameters", None)
    return changed
