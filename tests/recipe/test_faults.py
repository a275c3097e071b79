"""Our own reading of the schema agrees with the reference implementation of JSON Schema."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.errors import MergingError
from merging.recipe.faults import find_faults
from merging.recipe.mergekit import rewrite
from merging.recipe.recipe import Recipe
from merging.recipe.schema import RECIPE
from tests.recipe.strategies import recipes

jsonschema = pytest.importorskip("jsonschema")

VALIDATOR = jsonschema.Draft202012Validator(RECIPE)
few = settings(max_examples=50)
junk = st.sampled_from(
    [
        *(None, True, 0, 3, -1, 0.5, 2**63, "", "x", "base", "bfloat16"),
        *([], {}, [[1]], [0, 2], [1, {"value": 1}], {"value": 1}, {"value": [1], "filter": "mlp"}, [{"value": 1}]),
        *({"path": "a"}, {"model": "a"}, [{"model": "a"}]),
    ]
).map(deepcopy)
keys = st.sampled_from(
    [*RECIPE["properties"], "model", "value", "filter", "sources", "lora", "path", "revision", "odd"]
)


@st.composite
def damaged(draw: st.DrawFn, recipe: Recipe) -> Any:
    """A recipe's data with a few values replaced, deleted or added anywhere."""
    data: Any = recipe.data()
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = {"": data}
        key: Any = ""
        while isinstance(holder[key], dict | list) and holder[key] and draw(st.booleans()):
            holder = holder[key]
            key = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
        match draw(st.integers(0, 2)):
            case 0 if isinstance(holder[key], dict):
                holder[key][draw(keys)] = draw(junk)
            case 1 if isinstance(holder, dict) and key:
                del holder[key]
            case _:
                holder[key] = draw(junk)
        data = data if holder is not None and key != "" else holder[""]
    return data


@few
@given(st.data(), recipes())
def test_faults_are_found_exactly_where_json_schema_finds_them(data: st.DataObject, recipe: Recipe) -> None:
    value = data.draw(damaged(recipe))
    faults = find_faults(value, RECIPE)
    assert bool(faults) != VALIDATOR.is_valid(value), faults


@few
@given(st.data(), recipes())
def test_damaged_data_are_read_or_refused_by_our_own_errors(data: st.DataObject, recipe: Recipe) -> None:
    value = data.draw(damaged(recipe))
    try:
        assert isinstance(rewrite(value, (), places={}, file=None), Recipe)
    except MergingError as error:
        assert str(error)
    else:
        assert not find_faults(value, RECIPE)


@few
@given(recipes())
def test_valid_recipes_have_no_faults(recipe: Recipe) -> None:
    assert find_faults(recipe.data(), RECIPE) == []


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(RECIPE)
