"""Laws of what a merge method declares: bounds, explanations, examples; a new method is held to them by existing."""

from __future__ import annotations

import doctest
import inspect
import re
import sys

import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor
from merging.methods.declare import all_methods, reads
from merging.methods.describe import example, matrices
from merging.methods.parameters import REQUIRED
from merging.recipe.text import read_recipe
from tests.laws.cases import NEUTRAL, companions, number, operands

METHODS = all_methods()


@pytest.mark.parametrize("name, key", [(name, key) for name, method in METHODS.items() for key in method.parameters])
def test_values_out_of_bounds_or_of_another_kind_are_refused(name, key):
    knob = METHODS[name].parameters[key]
    wrong: list[object] = ["many", None, float("nan"), float("inf"), [], {}]
    wrong += [knob.kind.minimum - 1e-6] if knob.kind.minimum is not None else []
    wrong += [knob.kind.maximum + 1e-6] if knob.kind.maximum is not None else []
    wrong += [0.5, 2] if knob.kind.type == "flag" else [True]
    for value in wrong:
        with pytest.raises(ParameterError) as caught:
            knob.check(value)
        assert caught.value.must_be and caught.value.fix
    if knob.default is not REQUIRED:
        assert knob.check(knob.default) == knob.default


@pytest.mark.parametrize("name", METHODS)
def test_too_few_and_too_many_models_are_refused(name):
    method = METHODS[name]
    least, most = method.needs.inputs
    apart = method.needs.base == "required" and method.needs.sees == "models"
    base = torch.zeros(4) if method.needs.base == "required" else None
    for count in [least - 1] + ([most + 1] if most else []):
        if count > apart:
            with pytest.raises(ParameterError, match=f"{name} cannot merge") as caught:
                merge_tensor(name, torch.zeros(count - apart, 4), base)
            assert caught.value.must_be and caught.value.fix


@pytest.mark.parametrize("name", METHODS)
def test_a_method_explains_itself(name):
    method = METHODS[name]
    assert re.fullmatch(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\S+", method.paper)
    assert method.summary.endswith(".")
    assert "merged" in method.theorem or name in method.theorem
    assert "Use it" in method.theorem, f"{name} does not say when to use it"
    for key, knob in method.parameters.items():
        assert knob.says, f"{name} does not explain {key}: the docstring wants a line '{key}: what it is'"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_matrices_says_which_they_are_and_what_all_others_get(name):
    told = matrices(METHODS[name])
    assert bool(told) == (METHODS[name].needs.reach == "matrix")
    if told:
        given = told.partition("all others get ")[2]
        assert given.endswith(".") and given.startswith(("the ", "their "))


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_example_is_true_and_short(name):
    function = METHODS[name].function
    tests = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert any(f'merge_tensor("{name}"' in example.source for test in tests for example in test.examples)
    for test in tests:
        assert sum(len((example.source + example.want).splitlines()) for example in test.examples) <= 4
        assert doctest.DocTestRunner().run(test).failed == 0


def merged_as_shown(name, x, neutral=False):
    """What the parameters of a method's example make of operands; with `neutral`, where nothing is trimmed."""
    method = METHODS[name]
    recipe = read_recipe(example(method))
    told = {key: settings[0].value for key, settings in recipe.parameters.items()}
    told |= {key: each[0].value for entry in recipe.models for key, each in entry.parameters.items()}
    told |= {key: NEUTRAL[key] for key in ("density", "gamma") if key in told and neutral}
    told = {key: method.parameters[key].check(value) for key, value in told.items()}
    beside = companions(method, x)
    if method.needs.base == "required" and method.needs.sees == "models":
        return merge_tensor(name, x[1:], x[0], companions=beside, **told), told
    base = torch.zeros(x.shape[1:]) if method.needs.base == "required" else None
    return merge_tensor(name, x, base, companions=beside, **told), told


@pytest.mark.parametrize("name", METHODS)
def test_the_example_of_a_method_shows_what_the_method_is_about(name):
    method = METHODS[name]
    x = operands(method, number(method, 2), 200, 130)
    merged, told = merged_as_shown(name, x)
    assert merged.isfinite().all() and merged.any()
    if method.needs.sees == "task_vectors" and method.needs.reach != "span":
        linear = {key: told[key] for key in ("weight", "normalize", "lambda") if key in told}
        assert not torch.allclose(merged, merge_tensor("task_arithmetic", x, torch.zeros(x.shape[1:]), **linear))
    if not {"density", "gamma"}.isdisjoint(told):
        assert not torch.allclose(merged, merged_as_shown(name, x, neutral=True)[0])


@pytest.mark.parametrize("name", METHODS)
def test_a_method_and_its_rounds_take_keywords_after_the_tensor(name):
    method = METHODS[name]
    tensors = 0 if method.needs.reach == "span" else 1 if method.needs.order == "together" else 2
    steps = method.needs.rounds(dict.fromkeys(method.parameters, True))
    for step, expected in [(method.function, tensors), *((step, int(reads(step))) for step in steps)]:
        kinds = [each.kind for each in inspect.signature(step).parameters.values()]
        assert sum(kind is not inspect.Parameter.KEYWORD_ONLY for kind in kinds) == expected
    assert len({step.__name__ for step in steps}) == len(steps)


def test_every_module_of_methods_is_found_with_its_methods():
    modules = {method.function.__module__ for method in METHODS.values()}
    assert modules <= set(sys.modules)
    assert {"linear", "slerp", "task_arithmetic", "ties", "ties_global", "breadcrumbs", "passthrough"} <= set(METHODS)
