"""Axes of a grid as text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.errors import RecipeError
from merging.recipe.axes import Axis, read_axis

SCALARS = st.one_of(st.integers(-99, 99), st.floats(-9, 9).map(lambda x: round(x, 4)), st.booleans())


@settings(max_examples=40)
@given(st.lists(SCALARS, min_size=1, max_size=4))
def test_an_axis_reads_back_as_it_is_written(values: list[int | float | bool]) -> None:
    again = read_axis(str(Axis("weight[0]", tuple(values))))
    assert again == Axis("weight[0]", tuple(values))


@pytest.mark.parametrize("text", ["lambda", "=1", "lambda=", "lambda=1,,2", "lambda=0:1:0", "lambda=a:1:2"])
def test_what_is_no_axis_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="is no axis"):
        read_axis(text)
