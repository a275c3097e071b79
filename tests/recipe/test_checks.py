"""Problems and warnings that need no model."""

from __future__ import annotations

from merging.recipe.checks import check_parameters, parameter_warnings, unmatched_filters
from merging.recipe.text import read_recipe
from tests.recipe.toys import CHOICE, FLAG, SHARE, WEIGHT, T, method

TWO = "merge_method: toy\nmodels:\n- model: a\n- model: b\nbase_model: a\n"
NAMES = ["embed", "layers.0.mlp.up", "layers.0.attention.query", "layers.1.mlp.up"]


def test_a_good_recipe_has_no_problems() -> None:
    recipe = read_recipe(TWO + "parameters: {weight: [0, 1], density: 1e-1, normalize: false, mode: exact}\n")
    toy = method(WEIGHT, SHARE, FLAG, CHOICE)
    assert check_parameters(recipe, toy) == []
    assert parameter_warnings(recipe, toy) == []


def test_every_bad_parameter_is_found_with_its_place() -> None:
    text = """
merge_method: toy
models:
- model: a
  parameters: {weight: 1, densty: 0.5}
- model: b
  parameters: {normalize: true, weight: heavy}
base_model: a
parameters:
  density: [0.5, -1, 3]
  t: 1
"""
    problems = check_parameters(read_recipe(text), method(WEIGHT, SHARE, FLAG))
    assert [(problem.what, problem.where) for problem in problems] == [
        ("toy has no parameter 'densty'", "recipe line 5, column 27, models[0].parameters.densty"),
        (
            "'normalize' of toy cannot differ from model to model",
            "recipe line 7, column 16, models[1].parameters.normalize",
        ),
        ("weight cannot be 'heavy'", "recipe line 7, column 33, models[1].parameters.weight"),
        ("density cannot be -1", "recipe line 10, column 18, parameters.density[1]"),
        ("density cannot be 3", "recipe line 10, column 22, parameters.density[2]"),
        ("toy has no parameter 't'", "recipe line 11, column 3, parameters.t"),
    ]
    assert problems[0].fix == "did you mean 'density'?"
    assert problems[5].fix and problems[5].fix.startswith("delete the line; 't' belongs to ")
    assert "slerp" in problems[5].fix


def test_lenient_checking_lists_unknown_parameters_as_warnings() -> None:
    recipe = read_recipe(TWO + "parameters: {t: 1, weight: 1}\n")
    assert check_parameters(recipe, method(WEIGHT), lenient=True) == []
    warnings = parameter_warnings(recipe, method(WEIGHT), lenient=True)
    assert warnings == ["recipe line 6, column 14, parameters.t: toy has no parameter 't'"]


def test_a_missing_value_is_found_for_every_model_but_the_base() -> None:
    text = "merge_method: toy\nmodels:\n- model: a\n- model: b\n- model: c\nbase_model: a\n"
    subtracted = check_parameters(read_recipe(text), method(WEIGHT))
    assert [problem.what for problem in subtracted] == ["toy needs 'weight' for b", "toy needs 'weight' for c"]
    assert subtracted[0].where == "recipe line 4, column 3, models[1]"
    operand = check_parameters(read_recipe(text), method(WEIGHT, sees="models"))
    assert [problem.what for problem in operand] == [f"toy needs 'weight' for {name}" for name in "abc"]


def test_a_missing_shared_value_is_found_once_and_in_every_slice_that_lacks_it() -> None:
    assert [problem.what for problem in check_parameters(read_recipe(TWO), method(T))] == ["toy needs 't'"]
    text = """
slices:
- sources: [{model: a, layer_range: [0, 1]}]
  parameters: {t: 1}
- sources: [{model: a, layer_range: [0, 1]}]
merge_method: toy
"""
    (problem,) = check_parameters(read_recipe(text), method(T, base="unused"))
    assert (problem.what, problem.where) == ("toy needs 't'", "recipe line 5, column 3, slices[1]")


def test_an_unlisted_base_model_is_refused_where_it_would_be_one_more_input() -> None:
    text = "merge_method: toy\nmodels:\n- model: a\nbase_model: b\n"
    (problem,) = check_parameters(read_recipe(text), method(base="unused"))
    assert problem.what == "toy has no base model: b would be merged in as one more model"
    assert problem.where == "recipe line 4, column 1, base_model"
    assert check_parameters(read_recipe(text), method()) == []
    assert check_parameters(read_recipe(TWO), method(base="unused")) == []


def test_parameters_of_a_subtracted_base_are_a_warning() -> None:
    text = "models:\n- {model: a, parameters: {weight: 1}}\n- {model: b, parameters: {weight: 1}}\n"
    recipe = read_recipe(text + "merge_method: toy\nbase_model: a\n")
    (warning,) = parameter_warnings(recipe, method(WEIGHT))
    assert warning.startswith("recipe line 2, column 14, models[0].parameters: weight of the base model has no effect")
    assert parameter_warnings(recipe, method(WEIGHT, sees="models")) == []


def test_a_slices_own_base_model_is_its_base() -> None:
    text = """
slices:
- sources:
  - {model: a, layer_range: [0, 1], parameters: {weight: 1}}
  - {model: b, layer_range: [0, 1], parameters: {weight: 1}}
  base_model: b
base_model: a
merge_method: toy
"""
    (warning,) = parameter_warnings(read_recipe(text), method(WEIGHT))
    assert "slices[0].sources[1].parameters" in warning


def test_filters_that_match_no_tensor_are_found() -> None:
    text = TWO + "parameters:\n  t:\n  - {filter: mpl, value: 1}\n  - {filter: attention, value: 2}\n  - value: 3\n"
    (problem,) = unmatched_filters(read_recipe(text), NAMES)
    assert problem.what == "filter 'mpl' matches no tensor"
    assert problem.where == "recipe line 8, column 6, parameters.t[0].filter"


def test_filters_that_come_too_late_are_found() -> None:
    text = TWO + "parameters: {t: [{value: 1}, {filter: mlp, value: 2}]}\n"
    (problem,) = unmatched_filters(read_recipe(text), NAMES)
    assert problem.what == "filter 'mlp' decides nothing: earlier conditions match all its tensors"
    text = TWO + "parameters: {t: [{filter: layers.0, value: 1}, {filter: up, value: 2}]}\n"
    assert unmatched_filters(read_recipe(text), NAMES) == []
