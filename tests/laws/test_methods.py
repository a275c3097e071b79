"""Laws of every merge method, from its declaration alone; a new method is held to them by existing."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.methods.application import PADDING
from merging.methods.apply import measure_whole, merge_measured, merge_tensor
from merging.methods.parameters import REQUIRED
from merging.methods.rounds import Sum
from tests.laws.cases import (
    METHODS,
    NEUTRAL,
    case,
    companions,
    declared,
    draw_values,
    drawn_case,
    number,
    operands,
    readings,
    says,
    settled,
    square,
)


@pytest.mark.parametrize("name", declared(reach="element"))
@settings(max_examples=15)
@given(data=st.data(), cuts=st.sets(st.integers(1, 7), max_size=4))
def test_cutting_along_entries_changes_no_bit(name, data, cuts):
    whole = drawn_case(name, data, 8 * PADDING)
    edges = [0, *(cut * PADDING for cut in sorted(cuts)), 8 * PADDING]
    pieces = [whole.block(whole.x[:, a:b].contiguous(), a) for a, b in pairwise(edges)]
    assert torch.equal(torch.cat(pieces), whole.merge())


@pytest.mark.parametrize("name", declared(reach="element"))
@settings(max_examples=10)
@given(data=st.data(), entries=st.integers(1, 3 * PADDING))
def test_padding_changes_no_bit(name, data, entries):
    whole = drawn_case(name, data, 3 * PADDING)
    padded = whole.x.clone()
    padded[:, entries:] = 0
    assert torch.equal(whole.block(padded)[:entries], whole.merge()[:entries])


@pytest.mark.parametrize("name", declared(reach="element"))
@settings(max_examples=5)
@given(data=st.data())
def test_entries_know_nothing_of_their_axes(name, data):
    flat = drawn_case(name, data, 6 * PADDING)
    shaped = replace(flat.use, axes=2)
    x = flat.x.reshape(-1, 6, PADDING)
    assert torch.equal(replace(flat, use=shaped).block(x).reshape(-1), flat.merge())


@pytest.mark.parametrize("name", declared(reach="row"))
@settings(max_examples=15)
@given(data=st.data(), cut=st.integers(1, 7))
def test_cutting_between_rows_changes_no_bit(name, data, cut):
    whole = drawn_case(name, data, 8, PADDING)
    upper, lower = whole.x[:, :cut].contiguous(), whole.x[:, cut:].contiguous()
    pieces = [whole.block(upper), whole.block(lower, cut * PADDING)]
    assert torch.equal(torch.cat(pieces), whole.merge())


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=10)
@given(data=st.data(), cut=st.integers(0, 10))
def test_rounds_of_a_union_are_the_sums_of_the_rounds(name, data, cut):
    rows = METHODS[name].needs.reach == "row"
    whole = drawn_case(name, data, 10, 20)
    x, step_entries = (whole.x, 20) if rows else (whole.x.reshape(len(whole.x), 200), 1)
    cut = cut if rows else 20 * cut
    for step in readings(whole):
        left, right = x[:, :cut], x[:, cut:]
        held = Sum(step)
        held.add(whole.use.measure(step, left, whole.measured))
        held.add(whole.use.measure(step, right, whole.measured, cut * step_entries))
        found, total = held.settled(), settled(step, whole.measured[step.__name__])
        assert total.dtype in (torch.int64, torch.float64)
        if total.dtype == torch.int64:
            assert torch.equal(found, total)
        else:
            assert torch.allclose(found, total, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=8)
@given(data=st.data(), models=st.integers(1, 4))
def test_equal_models_are_a_fixed_point(name, data, models):
    method = METHODS[name]
    says(method, "not a fixed point")
    models = number(method, models)
    values = {**draw_values(data, method, models), **{k: v for k, v in NEUTRAL.items() if k in method.parameters}}
    if "normalize" not in method.parameters and "weight" in method.parameters:
        values["weight"] = (1 / models,) * models
    x = operands(method, 1, *square(method))
    x = x.expand(models, *x.shape[1:]).contiguous()
    assert torch.allclose(case(method, values, x).merge(), x[0], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("name", declared(sees="task_vectors"))
@settings(max_examples=5)
@given(data=st.data())
def test_models_that_are_the_base_model_give_the_base_model(name, data):
    method = METHODS[name]
    models = number(method, 3)
    assert not case(method, draw_values(data, method, models), torch.zeros(models, *square(method))).merge().any()


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.needs.order == "together"])
@settings(max_examples=10)
@given(data=st.data())
def test_the_order_of_models_matters_to_rounding_only(name, data):
    method = METHODS[name]
    says(method, "order of the models matters")
    here = drawn_case(name, data, *square(method))
    fixed = 1 if method.needs.sees == "models" and method.needs.base == "required" else 0
    order = [*range(fixed), *data.draw(st.permutations(range(fixed, len(here.x))))]
    values = {
        key: tuple(value[i] for i in order) if isinstance(value, tuple) else value
        for key, value in here.use.values.items()
    }
    there = case(method, values, here.x[order])
    assert torch.allclose(there.merge(), here.merge(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=10)
@given(data=st.data(), exponent=st.integers(-8, 8))
def test_scaled_models_give_the_scaled_merge(name, data, exponent):
    says(METHODS[name], "size of the changes matters")
    here = drawn_case(name, data, *square(METHODS[name]))
    there = case(here.use.method, dict(here.use.values), here.x * 2.0**exponent)
    assert torch.allclose(there.merge(), here.merge() * 2.0**exponent, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=5)
@given(data=st.data())
def test_no_argument_is_changed(name, data):
    here = drawn_case(name, data, *square(METHODS[name]))
    x, measured = here.x.clone(), {key: value.clone() for key, value in here.measured.items()}
    first = here.merge()
    seen = here.x if METHODS[name].needs.reach == "row" else here.x.reshape(len(here.x), -1)
    for step in readings(here):
        here.use.measure(step, seen, here.measured)
    assert torch.equal(here.x, x)
    # A rank beyond all entries is spelled NaN.
    assert all(torch.allclose(here.measured[key], value, 0, 0, equal_nan=True) for key, value in measured.items())
    assert torch.equal(here.merge(), first)


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=10)
@given(data=st.data(), shape=st.sampled_from([(), (0,), (1,), (5,), (3, 7), (2, 3, 2)]))
def test_any_shape_merges_to_finite_float32_of_that_shape(name, data, shape):
    method = METHODS[name]
    models = number(method, 3)
    x = operands(method, models, *shape)
    here = case(method, draw_values(data, method, models), x)
    merged = here.merge()
    assert merged.shape == x.shape[1:]
    assert merged.dtype == torch.float32
    assert merged.isfinite().all()
    if here.use.reach == "span":
        coefficients = here.use.coefficients(here.measured)
        assert coefficients.shape == (models,)
        assert coefficients.dtype == torch.float64


@pytest.mark.parametrize(
    "name, key",
    [
        (name, key)
        for name, each in METHODS.items()
        for key, knob in each.parameters.items()
        if "no effect" in knob.says
    ],
)
def test_a_parameter_said_to_have_no_effect_has_none(name, key):
    method = METHODS[name]
    x = operands(method, number(method, 3), *square(method))
    assert torch.equal(case(method, {key: 0}, x).merge(), case(method, {key: 1}, x).merge())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")
@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=5)
@given(data=st.data())
def test_an_accelerator_keeps_the_same_entries(name, data):
    method = METHODS[name]
    here = drawn_case(name, data, *((30, 100) if method.needs.reach == "matrix" else (3000,)))
    x = here.x.cuda()
    use = replace(here.use, device="cuda")
    measured = measure_whole(use, x)
    for step in here.use.rounds:
        if (value := here.measured.get(step.__name__)) is not None:
            found = settled(step, measured[step.__name__].cpu())
            assert torch.allclose(found, settled(step, value), rtol=1e-12, atol=0, equal_nan=True)
    beside = {key: value.cuda() for key, value in here.companions.items()}
    merged = merge_measured(use, x, measured, beside).cpu()
    if method.needs.reach == "element":
        assert torch.equal(merged == 0, here.merge() == 0)
    assert torch.allclose(merged, here.merge(), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_stored_dtype_comes_back(name, dtype):
    method = METHODS[name]
    models = number(method, 2)
    apart = method.needs.base == "required" and method.needs.sees == "models"
    x = operands(method, models, 12).to(dtype)
    base = torch.zeros(12, dtype=dtype) if method.needs.base == "required" else None
    required = {knob.argument: 0.5 for knob in method.parameters.values() if knob.default is REQUIRED}
    beside = companions(method, x)
    assert merge_tensor(name, x[apart:], base, companions=beside, **required).dtype == dtype
