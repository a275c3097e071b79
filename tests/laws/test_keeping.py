"""Laws of methods that keep tasks apart: what is kept gives back what the method makes, for every task and any cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.methods.application import Application
from merging.methods.apply import measure_whole
from merging.methods.declare import Keeps, all_methods, merge_method
from merging.methods.keeping import Keeping
from tests.engine.plans import temporary_methods
from tests.laws.cases import METHODS, draw_values, operands

KEEPING = [name for name, method in METHODS.items() if method.needs.keeps]
ENTRIES = 700


def test_some_methods_keep_tasks() -> None:
    assert {"emr", "tall_masks"} <= set(KEEPING)


@pytest.mark.parametrize("name", KEEPING)
@given(data=st.data(), models=st.integers(1, 5))
@settings(max_examples=20)
def test_every_task_comes_back_bit_for_bit(name: str, data: st.DataObject, models: int) -> None:
    method = METHODS[name]
    keeps = method.needs.keeps
    assert keeps
    values = {**draw_values(data, method, models), keeps.parameter: 1}
    x = operands(method, models, ENTRIES, seed=models)
    use = Keeping(method, values, models)
    measured = measure_whole(use, x)
    before = x.clone()
    (vector, masks), scales = use.parts(x, measured), use.scales(measured)
    assert (vector.shape, masks.shape, scales.shape) == ((ENTRIES,), (models, ENTRIES), (models,))
    assert (vector.dtype, masks.dtype, scales.dtype) == (torch.float32, torch.bool, torch.float64)
    assert torch.equal(x, before)
    for i in range(models):
        one = Application(method, {**values, keeps.parameter: i + 1}, models)
        merged = one.merge(x, measure_whole(one, x))
        assert torch.equal(masks[i].float() * vector * float(scales[i]), merged)


@pytest.mark.parametrize("name", KEEPING)
@given(data=st.data(), cut=st.integers(0, ENTRIES))
@settings(max_examples=10)
def test_what_is_kept_does_not_depend_on_where_it_is_cut(name: str, data: st.DataObject, cut: int) -> None:
    method = METHODS[name]
    assert method.needs.keeps
    values = {**draw_values(data, method, 3), method.needs.keeps.parameter: 1}
    x = operands(method, 3, ENTRIES)
    use = Keeping(method, values, 3)
    measured = measure_whole(use, x)
    vector, masks = use.parts(x, measured)
    parts = [use.parts(x[:, a:b], measured) for a, b in ((0, cut), (cut, ENTRIES))]
    assert torch.equal(torch.cat([part[0] for part in parts]), vector)
    assert torch.equal(torch.cat([part[1] for part in parts], 1), masks)


@pytest.mark.parametrize("name", KEEPING)
def test_the_parameter_that_chooses_a_task_counts_from_one(name: str) -> None:
    method = METHODS[name]
    assert method.needs.keeps
    knob = method.parameters[method.needs.keeps.parameter]
    assert knob.kind.type == "count"
    assert not knob.kind.per_model
    assert knob.check(1) == 1


@pytest.mark.parametrize(
    "facts",
    [
        {"sees": "models", "reach": "element"},
        {"sees": "task_vectors", "reach": "matrix"},
        {"sees": "task_vectors", "reach": "element", "order": "sequential"},
    ],
)
def test_a_method_that_cannot_keep_tasks_may_not_declare_it(facts: dict[str, str]) -> None:
    def merged(task_vectors: torch.Tensor) -> torch.Tensor:
        """The first."""
        return task_vectors[0]

    with temporary_methods(), pytest.raises(ValueError, match="can keep tasks only if"):
        merge_method("test_keeping", paper="none", keeps=Keeps("task", merged, merged), **facts)(merged)
    assert "test_keeping" not in all_methods()
