"""The JSON Schema for editors: what it accepts, and what it marks."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from merging.methods.declare import all_methods, find_method
from merging.methods.describe import example
from merging.recipe.checks import check_parameters, parameter_warnings
from merging.recipe.editors import recipe_schema
from merging.recipe.recipe import Recipe
from merging.recipe.text import read_recipe
from tests.recipe.strategies import recipes

jsonschema = pytest.importorskip("jsonschema")

EXAMPLES = sorted((Path(__file__).parents[2] / "data" / "recipes").glob("*.yaml"))
TIES: dict[str, Any] = {"models": [{"model": "a"}], "merge_method": "ties", "base_model": "b"}


@cache
def schema_validator() -> Any:
    return jsonschema.Draft202012Validator(recipe_schema())


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = schema_validator().schema
    assert json.loads(json.dumps(schema)) == schema
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema_validator()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_read_checked_and_valid(path: Path, validator: Any) -> None:
    recipe = read_recipe(path)
    method = find_method(recipe.method)
    assert check_parameters(recipe, method) == []
    assert parameter_warnings(recipe, method) == []
    validator.validate(recipe.data())
    assert read_recipe(recipe.text()) == recipe


@pytest.mark.parametrize("name", all_methods())
def test_the_recipe_that_documents_a_method_is_read_checked_and_valid(name: str, validator: Any) -> None:
    recipe = read_recipe(example(find_method(name)))
    assert check_parameters(recipe, find_method(name)) == []
    validator.validate(recipe.data())


@pytest.mark.parametrize(
    "change",
    [
        {"merge_method": "tise"},
        {"parameters": {"densty": 0.5}},
        {"parameters": {"density": 2}},
        {"parameters": {"density": [0.5, -1]}},
        {"parameters": {"density": {"filter": "mlp", "value": "half"}}},
        {"models": [{"model": "a", "parameters": {"normalize": True}}]},
        {"merge_method": "slerp", "parameters": {"density": 0.5}},
        {"chat_template": "auto"},
        {"dype": "float32"},
        {"models": None},
    ],
    ids=str,
)
def test_an_editor_marks(change: dict[str, Any], validator: Any) -> None:
    assert validator.is_valid(TIES)
    assert not validator.is_valid({**TIES, **change})


@pytest.mark.parametrize(
    "parameters",
    [
        {"density": 0.5},
        {"density": "1e-1"},
        {"normalize": 1.0, "lambda": 2},
        {"density": [{"filter": "a", "value": [0, 1]}]},
    ],
    ids=str,
)
def test_an_editor_accepts(parameters: dict[str, Any], validator: Any) -> None:
    validator.validate({**TIES, "parameters": parameters})


def test_every_key_and_parameter_is_explained() -> None:
    schema = recipe_schema()
    assert all("description" in content for key, content in schema["properties"].items() if key != "tokenizer")
    assert all(knob["description"] for knob in schema["$defs"].values())


@settings(max_examples=50)
@given(recipes())
def test_a_recipe_of_an_unknown_method_is_marked_only_for_that(recipe: Recipe) -> None:
    errors = schema_validator().iter_errors(recipe.data())
    assert {tuple(error.path) for error in errors} == {("merge_method",)}
