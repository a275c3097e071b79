"""Variants of a recipe: axes, their values, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.errors import MergingError, Problems
from merging.recipe.recipe import Recipe, Setting
from merging.recipe.text import read_recipe
from merging.recipe.variants import grid, vary

TEXT = (
    "merge_method: ties\nbase_model: base\nmodels:\n- {model: zoo/math, parameters: {weight: 0.5}}\n- model: code\n"
    "parameters: {lambda: [{filter: mlp, value: 0.3}, {value: 1.0}]}\n"
)


@pytest.fixture
def recipe() -> Recipe:
    return read_recipe(TEXT)


def test_a_shared_value_replaces_all_that_was_said_of_it(recipe: Recipe) -> None:
    varied = vary(recipe, {"lambda": 0.7, "density": 0.2})
    assert varied.parameters == {"lambda": (Setting(0.7),), "density": (Setting(0.2),)}
    assert varied.models == recipe.models
    assert recipe == read_recipe(TEXT)


def test_a_models_value_is_named_by_position_source_or_last_part(recipe: Recipe) -> None:
    first, second = ((Setting(0.1),), (Setting(0.9),))
    for axes in ({"weight[0]": 0.1, "weight[1]": 0.9}, {"weight.zoo/math": 0.1, "weight.code": 0.9}):
        varied = vary(recipe, axes)
        assert [entry.parameters["weight"] for entry in varied.models] == [first, second]
    assert vary(recipe, {"weight.math": 0.1}).models[0].parameters["weight"] == first


@pytest.mark.parametrize(
    ("axis", "says"),
    [
        ("lamda", "lambda"),
        ("weight", "beaten"),
        ("weight[2]", r"\[1\] code"),
        ("weight.maths", "names no model"),
        ("lambda[0]", "for all models"),
        ("weight[a]", "no axis"),
        ("", "no axis"),
    ],
)
def test_an_axis_that_would_change_nothing_is_refused(recipe: Recipe, axis: str, says: str) -> None:
    with pytest.raises(MergingError, match=says):
        vary(recipe, {axis: 0.5})


def test_every_bad_axis_is_named_at_once(recipe: Recipe) -> None:
    with pytest.raises(Problems) as refused:
        vary(recipe, {"density": 3, "weight.nobody": 1, "lambda": 1})
    assert len(refused.value.problems) == 2


@given(
    st.dictionaries(st.text("abc", min_size=1), st.lists(st.integers(), min_size=1, max_size=3), min_size=1, max_size=4)
)
def test_a_grid_is_the_product_of_its_axes_with_the_last_one_fastest(axes: dict[str, list[int]]) -> None:
    points = list(grid(axes))
    sizes = 1
    for values in axes.values():
        sizes *= len(values)
    assert len(points) == sizes and all(list(point) == list(axes) for point in points)
    for step, (axis, values) in enumerate(reversed(axes.items())):
        if step == 0:
            assert [point[axis] for point in points[: len(values)]] == values
        assert {point[axis] for point in points} == set(values)


def test_empty_and_endless_grids_are_refused() -> None:
    for axes in ({}, {"lambda": []}, {"a": range(1000), "b": range(1000)}):
        with pytest.raises(MergingError):
            grid(axes)
