"""What a person asks for on the page: models, a method, a weight for each model; as a recipe and as coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from merging import Method, all_methods, block_settings, merge_tensor, read_block_weights, write_yaml

WEIGHT, SCALE = "weight", "lambda"
# Sliders for every model: with its whole task vector six models of different tasks overshoot.
START_WEIGHT, START_ALONE = 0.4, 1.0
# A task vector is seldom taken away more than once, or added more than one and a half times.
LEAST_WEIGHT, MOST_WEIGHT = -1.0, 1.5
# Beyond rounding, a mean of models whose shares do not sum to 1 stands outside what inner products of changes tell.
MEAN_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Wish:
    """A merge as the sliders say it.

    `weights` belong to `models`; where the method has no weights, 0 leaves a model out. `shared` are the values of
    parameters that differ from the method's defaults, for all models. `lines` are block weights, as shares of each
    model's weight; "" for the same everywhere.
    """

    base: str
    models: tuple[str, ...]
    method: str
    weights: tuple[float, ...]
    shared: tuple[tuple[str, Any], ...] = ()
    lines: tuple[str, ...] = ()

    def line(self, i: int) -> str:
        """The block weights of a model."""
        return self.lines[i] if i < len(self.lines) else ""

    @property
    def has_blocks(self) -> bool:
        """Whether some model's weight differs from block to block."""
        return any(self.lines)

    def data(self) -> dict[str, Any]:
        """The wish as plain values, as a session keeps it."""
        return asdict(self)


def wish_from(data: Mapping[str, Any]) -> Wish:
    """The wish that `Wish.data` described."""
    listed = {name: tuple(data[name]) for name in ("models", "weights", "lines")}
    return Wish(data["base"], method=data["method"], shared=tuple(map(tuple, data["shared"])), **listed)


def takes_weights(method: Method) -> bool:
    """Whether every model has a weight of its own."""
    knob = method.parameters.get(WEIGHT)
    return knob is not None and knob.kind.per_model


def is_linear(method: Method) -> bool:
    """Whether the merge is a weighted sum of the models whose weights are known before any entry is read."""
    needs = method.needs
    return needs.reach == "span" and not needs.measure and needs.order == "together" and not needs.companions


def start_weight(method: Method) -> float:
    """Where the sliders begin: what many models bear where they are added up, else the method's own default."""
    if is_linear(method) and method.needs.sees == "task_vectors":
        return START_WEIGHT
    default = method.defaults().get(WEIGHT, START_ALONE)
    return float(default)


def weight_span(method: Method) -> tuple[float, float]:
    """Ends of a model's slider: as far as the method allows, below zero too, where a model's change is taken away."""
    kind = method.parameters[WEIGHT].kind
    least = LEAST_WEIGHT if kind.minimum is None else max(LEAST_WEIGHT, kind.minimum)
    return least, MOST_WEIGHT if kind.maximum is None else min(MOST_WEIGHT, kind.maximum)


def fitting(method: Method, models: Sequence[str]) -> tuple[str, ...]:
    """As many of the models, from the first, as the method takes."""
    return tuple(models[: method.needs.inputs[1]])


def recipe_text(wish: Wish, tensors: Sequence[Any] = (), *, whole: bool = False) -> str:
    """The wish as a recipe. A model without any effect is left out, unless the recipe is to be `whole`.

    `tensors` place the block weights, where there are any. Raises MergingError for a line that cannot be read.
    """
    method = all_methods()[wish.method]
    kept = [i for i, weight in enumerate(wish.weights) if whole or weight or not _may_drop(method)]
    entries = []
    for i in kept or range(len(wish.models)):
        weight = _setting(wish, i, tensors) if takes_weights(method) else None
        parameters = {} if weight is None else {"parameters": {WEIGHT: weight}}
        entries.append({"model": wish.models[i], **parameters})
    pair = method.needs.sees == "models" and method.needs.base == "required"
    base = wish.models[0] if pair else wish.base
    data: dict[str, Any] = {"models": entries, "merge_method": wish.method}
    if method.needs.base == "required":
        data["base_model"] = base
    if wish.shared:
        data["parameters"] = dict(wish.shared)
    return write_yaml(data)


def _may_drop(method: Method) -> bool:
    return not takes_weights(method) or is_linear(method)


def _setting(wish: Wish, i: int, tensors: Sequence[Any]) -> Any:
    weight = round(wish.weights[i], 6)
    return _block_setting(wish.line(i), weight, tuple(tensors)) if wish.line(i) else weight


@lru_cache(maxsize=256)
def _block_setting(line: str, weight: float, tensors: tuple[Any, ...]) -> Any:
    """What to write for the weight of a model; the shortest is searched for, and a slider moves one model at a time."""
    return block_settings(read_block_weights(f"{line}; *={weight!r}", tensors))


@lru_cache(maxsize=256)
def _shares(line: str, tensors: tuple[Any, ...]) -> tuple[float, ...]:
    return read_block_weights(line, tensors).per_tensor()


class Coefficients(NamedTuple):
    """What each task vector is multiplied with: one row for all tensors, or one for each; whether the merge is that."""

    rows: tuple[tuple[float, ...], ...]
    exact: bool

    def spread(self, tensors: int) -> list[tuple[float, ...]]:
        """One row for each tensor."""
        return list(self.rows) if len(self.rows) == tensors else [self.rows[0]] * tensors


def coefficients(wish: Wish, tensors: Sequence[Any] = (), models: int = 0) -> Coefficients:
    """Where the wish stands among its models, from the method's own formula; of other methods the weighted sum.

    There may be more `models` than the wish's, which then come after them and take no part.

    Raises MergingError for values that the method refuses and for lines that cannot be read.
    """
    method = all_methods()[wish.method]
    columns = []
    for i, weight in enumerate(wish.weights):
        line = wish.line(i)
        shares = _shares(line, tuple(tensors)) if line else (1.0,)
        columns.append([weight * share for share in shares])
    longest = max(map(len, columns))
    rows = list(zip(*(column * (longest // len(column)) for column in columns), strict=True))
    found = {row: _applied(wish, method, row) for row in set(rows)}
    others = (0.0,) * (models - len(wish.models))
    exact = is_linear(method) and (
        method.needs.sees == "task_vectors" or all(abs(sum(row) - 1) < MEAN_TOLERANCE for row in found.values())
    )
    return Coefficients(tuple(found[row] + others for row in rows), exact)


def _applied(wish: Wish, method: Method, row: tuple[float, ...]) -> tuple[float, ...]:
    """The method on unit vectors gives its coefficients."""
    if not is_linear(method):
        scale = float(dict(wish.shared).get(SCALE, method.defaults().get(SCALE, 1.0)))
        return tuple(scale * weight for weight in row)
    import torch

    n = len(row)
    values = {method.parameters[name].argument: value for name, value in wish.shared}
    weights = {WEIGHT: list(row)} if takes_weights(method) else {}
    base = torch.zeros(n) if method.needs.sees == "task_vectors" else None
    merged = merge_tensor(wish.method, torch.eye(n), base, **{**values, **weights})
    return tuple(merged.tolist())


def with_values(wish: Wish, values: Mapping[str, Any]) -> Wish:
    """The wish at a point of a grid: axes are "weight[0]" for the first model, or a shared parameter's name."""
    weights, shared = list(wish.weights), dict(wish.shared)
    for axis, value in values.items():
        if axis.startswith(f"{WEIGHT}["):
            weights[int(axis[len(WEIGHT) + 1 : -1])] = float(value)
        else:
            shared[axis] = value
    return replace(wish, weights=tuple(weights), shared=tuple(shared.items()))
