"""Variants of a recipe: one of its parameter values exchanged, for all models or for one.

An axis is named like what it varies: "lambda" is the recipe's own setting; "weight[0]" is that of the first model
listed, "weight.math" that of the model math, by its source or the last part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from merging.errors import MergingError, ParameterError, RecipeError, nearest, raise_all
from merging.methods.declare import Method, find_method
from merging.methods.parameters import Parameter
from merging.recipe.recipe import Recipe, Scalar, Setting

# More merges than anybody waits for: such a grid is a slip of the pen.
MOST_POINTS = 100_000
_AXIS = re.compile(r"(?P<parameter>[^.\[\]]+)(\[(?P<index>\d+)\]|\.(?P<model>.+))?")


def grid(axes: Mapping[str, Sequence[Scalar]]) -> Iterator[dict[str, Scalar]]:
    """Every combination of the axes' values, the last axis varying fastest. Raises RecipeError for an empty axis.

    >>> [point["b"] for point in grid({"a": [1], "b": [2, 3]})]
    [2, 3]
    """
    raise_all([_empty(name) for name, values in axes.items() if not len(values)] or _no_axis(axes))
    points = 1
    for values in axes.values():
        points *= len(values)
    if points > MOST_POINTS:
        must_be = f"at most {MOST_POINTS:,}"
        raise RecipeError(f"the grid has {points:,} points", must_be=must_be, fix="give the axes fewer values")
    return (dict(zip(axes, values, strict=True)) for values in product(*axes.values()))


def _empty(name: str) -> MergingError:
    return RecipeError(f"the axis {name} has no values", must_be="one or more numbers")


def _no_axis(axes: Mapping[str, Sequence[Scalar]]) -> list[MergingError]:
    return [] if axes else [RecipeError("nothing is varied", must_be="an axis such as lambda with values 0.5 and 1")]


def vary(recipe: Recipe, values: Mapping[str, Scalar]) -> Recipe:
    """The recipe with the value of every axis in `values` put in the place of what it said.

    Filters and gradients of that setting go with it. Raises ParameterError for an axis that names nothing, a value out
    of bounds, or an axis that a model's own setting would beat; all of them at once.
    """
    method = find_method(recipe.method, recipe.where("merge_method"))
    problems: list[MergingError] = []
    for name, value in values.items():
        try:
            recipe = _varied(recipe, method, name, value)
        except MergingError as problem:
            problems.append(problem)
    raise_all(problems)
    return recipe


def _varied(recipe: Recipe, method: Method, axis: str, value: Scalar) -> Recipe:
    spelled = _AXIS.fullmatch(axis)
    if spelled is None:
        raise ParameterError(f"{axis!r} is no axis", must_be="lambda, weight[0] or weight.MODEL")
    parameter = _parameter(method, spelled["parameter"], axis)
    setting = {parameter.name: (Setting(parameter.check(value, f"axis {axis}")),)}
    if spelled["index"] is None and spelled["model"] is None:
        _refuse_beaten(recipe, parameter.name, axis)
        return replace(recipe, parameters={**recipe.parameters, **setting})
    if not parameter.kind.per_model:
        raise ParameterError(
            f"{method.name} has one {parameter.name} for all models", where=f"axis {axis}", fix=f"vary {parameter.name}"
        )
    position = _position(recipe, spelled["index"], spelled["model"], axis)
    entries = list(recipe.models)
    entries[position] = replace(entries[position], parameters={**entries[position].parameters, **setting})
    return replace(recipe, models=tuple(entries))


def _parameter(method: Method, name: str, axis: str) -> Parameter:
    if name in method.parameters:
        return method.parameters[name]
    close = nearest(name, method.parameters)
    raise ParameterError(
        f"{method.name} has no parameter {name!r}",
        where=f"axis {axis}",
        must_be=", ".join(method.parameters) or "a method that has parameters",
        fix=f"write {close[0]}" if close else None,
    )


def _refuse_beaten(recipe: Recipe, name: str, axis: str) -> None:
    """A setting that stands nearer to the models would win, and the axis change nothing there."""
    found = [
        recipe.where(*path, name) for path, block, _ in recipe.blocks() if path != ("parameters",) and name in block
    ]
    if found:
        raise ParameterError(
            f"the axis {axis} would be beaten by settings of single models",
            where="; ".join(found),
            fix=f"delete those lines, or vary {name}[0], {name}[1], … instead",
        )


def _position(recipe: Recipe, index: str | None, model: str | None, axis: str) -> int:
    names = [entry.source for entry in recipe.models]
    if index is not None and int(index) < len(names):
        return int(index)
    found = [i for i, name in enumerate(names) if model in (name, Path(name).name)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"[{i}] {name}" for i, name in enumerate(names)) or "a recipe that lists `models`, not slices"
    what = f"{len(found)} models are called {model}" if found else f"the axis {axis} names no model"
    raise ParameterError(what, where=f"axis {axis}", must_be=listed)
