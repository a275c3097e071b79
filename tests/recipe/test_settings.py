"""Parameter values per tensor, against the rules written as naive loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.errors import ParameterError
from merging.methods.declare import Method
from merging.methods.parameters import REQUIRED, Parameter
from merging.recipe.recipe import ModelEntry, Parameters, Recipe, Setting
from merging.recipe.settings import Settings, interpolate, resolve
from merging.recipe.text import read_recipe
from tests.recipe.toys import CHOICE, COUNT, FLAG, SHARE, WEIGHT, T, method

TWO = "merge_method: toy\nmodels:\n- model: a\n- model: b\n"
TENSOR = "layers.3.mlp.up.weight"


def resolved(text: str, toy: Method, tensor: str = TENSOR, fraction: float = 0.0, **place: Any) -> dict[str, Any]:
    return resolve(read_recipe(text), toy, tensor=tensor, fraction=fraction, **{"operands": ("a", "b"), **place})


def test_a_value_for_all_models_is_a_tuple_along_the_operands() -> None:
    assert resolved(TWO + "parameters: {weight: 0.5}\n", method(WEIGHT)) == {"weight": (0.5, 0.5)}


def test_a_models_own_value_beats_the_recipes() -> None:
    text = "merge_method: toy\nmodels:\n- {model: a, parameters: {weight: 2}}\n- model: b\nparameters: {weight: 1}\n"
    assert resolved(text, method(WEIGHT)) == {"weight": (2.0, 1.0)}
    assert resolved(text, method(WEIGHT), operands=("b", "a")) == {"weight": (1.0, 2.0)}


def test_a_sources_value_beats_the_slices_and_that_the_recipes() -> None:
    text = """
slices:
- sources:
  - {model: a, layer_range: [0, 2], parameters: {weight: 1}}
  - {model: b, layer_range: [0, 2]}
  parameters: {weight: 2, t: 0.5}
- sources:
  - {model: a, layer_range: [2, 4]}
  - {model: b, layer_range: [2, 4]}
merge_method: toy
parameters: {weight: 3, t: 0.25}
"""
    toy = method(WEIGHT, T)
    assert resolved(text, toy, slice_index=0) == {"weight": (1.0, 2.0), "t": 0.5}
    assert resolved(text, toy, slice_index=1) == {"weight": (3.0, 3.0), "t": 0.25}


def test_defaults_stand_in_for_what_nothing_sets() -> None:
    toy = method(SHARE, FLAG, COUNT, CHOICE)
    assert resolved(TWO, toy) == {"density": (1.0, 1.0), "normalize": True, "steps": 10, "mode": "fast"}


def test_the_first_matching_condition_wins() -> None:
    text = TWO + "parameters: {t: [{filter: mlp, value: 1}, {filter: up, value: 2}, {value: 3}]}\n"
    assert resolved(text, method(T)) == {"t": 1.0}
    assert resolved(text, method(T), "head.up") == {"t": 2.0}
    assert resolved(text, method(T), "head") == {"t": 3.0}


def test_a_block_whose_filters_all_miss_is_passed_over() -> None:
    text = TWO.replace("- model: b", "- {model: b, parameters: {weight: {filter: attention, value: 9}}}")
    assert resolved(text + "parameters: {weight: 1}\n", method(WEIGHT)) == {"weight": (1.0, 1.0)}
    assert resolved(text + "parameters: {weight: 1}\n", method(WEIGHT), "attention") == {"weight": (1.0, 9.0)}


@pytest.mark.parametrize("star", ["'*'", "''", "~"])
def test_a_star_matches_every_tensor(star: str) -> None:
    assert resolved(TWO + f"parameters: {{t: {{filter: {star}, value: 1}}}}\n", method(T)) == {"t": 1.0}


def test_a_gradient_runs_over_the_layers_and_begins_outside_them() -> None:
    text = TWO + "parameters: {t: [0, 1, 0.5]}\n"
    values = [resolved(text, method(T), fraction=fraction)["t"] for fraction in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert values == [0.0, 0.5, 1.0, 0.75, 0.5]


def test_a_gradient_of_one_value_is_that_value() -> None:
    assert resolved(TWO + "parameters: {weight: [0.5]}\n", method(WEIGHT), fraction=1.0) == {"weight": (0.5, 0.5)}


def test_gradients_of_flags_and_choices_pick_and_those_of_counts_round() -> None:
    text = TWO + "parameters: {normalize: [1, 0], mode: [fast, exact, fast], steps: [1, 4]}\n"
    toy = method(FLAG, CHOICE, COUNT)
    assert resolved(text, toy, fraction=0.9) == {"normalize": True, "mode": "exact", "steps": 4}
    assert resolved(text, toy, fraction=1.0) == {"normalize": False, "mode": "fast", "steps": 4}
    assert type(resolved(text, toy, fraction=0.5)["steps"]) is int


@pytest.mark.parametrize("spelled", ["1e-3", "'1e-3'", "'0.001'", "1.0e-3", ".001"])
def test_numbers_written_as_text_are_numbers(spelled: str) -> None:
    assert resolved(TWO + f"parameters: {{t: {spelled}}}\n", method(T)) == {"t": 0.001}


def test_a_flag_may_be_written_as_a_number() -> None:
    assert resolved(TWO + "parameters: {normalize: 0.0}\n", method(FLAG)) == {"normalize": False}


def test_a_model_that_is_listed_twice_has_two_blocks() -> None:
    text = "merge_method: toy\nmodels:\n- {model: a, parameters: {weight: 1}}\n- {model: a, parameters: {weight: 2}}\n"
    assert resolved(text, method(WEIGHT), operands=("a", "a")) == {"weight": (1.0, 2.0)}


def test_an_operand_that_is_not_listed_takes_the_recipes_values() -> None:
    assert resolved(TWO + "parameters: {weight: 3}\n", method(WEIGHT), operands=("base", "a")) == {"weight": (3.0, 3.0)}


def test_a_value_without_a_default_must_be_set_for_every_tensor() -> None:
    with pytest.raises(ParameterError, match="toy needs 't'"):
        resolved(TWO, method(T))
    with pytest.raises(ParameterError, match="toy needs 'weight' for b") as caught:
        resolved(TWO.replace("model: a", "{model: a, parameters: {weight: 1}}"), method(WEIGHT))
    assert caught.value.where == "recipe line 4, column 3, models[1]"
    with pytest.raises(ParameterError, match=f"no setting of 't' matches the tensor {TENSOR}"):
        resolved(TWO + "parameters: {t: {filter: attention, value: 1}}\n", method(T))


def test_a_value_out_of_bounds_is_refused_at_its_place() -> None:
    with pytest.raises(ParameterError, match="density cannot be 2") as caught:
        resolved(TWO + "parameters:\n  density:\n  - value: [0.5, 2]\n", method(SHARE))
    assert caught.value.where == "recipe line 7, column 18, parameters.density[0].value[1]"


def test_equal_values_are_shared_between_tensors() -> None:
    found = Settings(read_recipe(TWO + "parameters: {t: [{filter: mlp, value: [0, 1]}, {value: 1}]}\n"), method(T))
    first = found.at(tensor="mlp.a", fraction=0.5, operands=("a", "b"))
    assert found.at(tensor="mlp.b", fraction=0.5, operands=("a", "b")) is first
    assert found.at(tensor="other", fraction=0.5, operands=("a", "b")) == {"t": 1.0}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6), st.floats(0, 1))
def test_interpolation_stays_between_its_neighbours(values: list[float], fraction: float) -> None:
    found = interpolate(values, fraction)
    position = fraction * (len(values) - 1)
    i = min(int(position), len(values) - 1)
    left, right = values[i], values[min(i + 1, len(values) - 1)]
    assert min(left, right) <= found <= max(left, right)
    assert found == pytest.approx((1 - (position - i)) * left + (position - i) * right, abs=1e-9, rel=1e-9)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1), st.integers(1, 5))
def test_a_gradient_of_equal_values_is_constant_to_the_bit(value: float, fraction: float, count: int) -> None:
    assert interpolate([value] * count, fraction) == value


def naive(parameter: Parameter, blocks: Sequence[Parameters], tensor: str, fraction: float) -> Any:
    """The rules in words: the first block, and in it the first setting, whose filter is part of the name."""
    for block in blocks:
        for setting in block.get(parameter.name, ()):
            if setting.filter is None or setting.filter in tensor:
                anchors = setting.value if isinstance(setting.value, tuple) else (setting.value,)
                return interpolate([float(anchor) for anchor in anchors], fraction)
    return parameter.default


numbers = st.floats(0, 1)
conditions = st.builds(
    Setting, numbers | st.lists(numbers, min_size=1, max_size=4).map(tuple), st.sampled_from([None, "mlp", "up", "3"])
)
blocks = st.dictionaries(
    st.sampled_from(["weight", "density"]), st.lists(conditions, min_size=1, max_size=3).map(tuple), max_size=2
)


@settings(max_examples=60)
@given(st.lists(blocks, min_size=2, max_size=2), blocks, st.sampled_from([TENSOR, "head", "mlp", "norm.3"]), numbers)
def test_resolution_follows_the_rules(own: list[Parameters], top: Parameters, tensor: str, fraction: float) -> None:
    recipe = Recipe(
        "toy", tuple(ModelEntry(name, block) for name, block in zip("ab", own, strict=True)), parameters=top
    )
    expected = {
        knob.name: tuple(naive(knob, (block, top), tensor, fraction) for block in own) for knob in (WEIGHT, SHARE)
    }
    if REQUIRED in expected["weight"]:
        with pytest.raises(ParameterError):
            resolve(recipe, method(WEIGHT, SHARE), tensor=tensor, fraction=fraction, operands=("a", "b"))
    else:
        found = resolve(recipe, method(WEIGHT, SHARE), tensor=tensor, fraction=fraction, operands=("a", "b"))
        assert found == expected
