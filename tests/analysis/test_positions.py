from __future__ import annotations

from math import inf, isfinite, sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.analysis.positions import Positions
from merging.errors import MergingError
from merging.methods.apply import merge_tensor
from tests import tiny
from tests.analysis.toys import exactly_diagnosed, explicit, matrix_models

MODELS = 3
BASE, CONFIG = tiny.t5(layers=2, hidden=16, vocabulary=11)
TUNED = [tiny.fine_tuned(BASE, seed) for seed in range(MODELS)]
DIAGNOSIS = exactly_diagnosed(BASE, TUNED)
POSITIONS = Positions(DIAGNOSIS)
TENSORS = len(DIAGNOSIS.tensors)

per_model = st.lists(st.floats(-2, 2), min_size=MODELS, max_size=MODELS)
per_tensor = st.integers(0, 2**31).map(
    lambda seed: torch.randn(TENSORS, MODELS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
)


def merged(c, kept=lambda _: True):
    """Base and task vectors of the tensors kept, and the merge's own task vector, end to end."""
    c = torch.as_tensor(c, dtype=torch.float64).expand(TENSORS, MODELS)
    parts, total = [], []
    for placed, row in zip(DIAGNOSIS.tensors, c, strict=True):
        if kept(placed):
            inputs = explicit(BASE, TUNED, placed.name)
            parts.append(torch.stack(inputs))
            total.append(sum(weight * tau for weight, tau in zip(row, inputs[1:], strict=True)))
    pulls = [
        torch.cat(
            [
                row[i] * explicit(BASE, TUNED, placed.name)[1 + i]
                for placed, row in zip(DIAGNOSIS.tensors, c, strict=True)
                if kept(placed)
            ]
        )
        for i in range(MODELS)
    ]
    return torch.cat(parts, 1), torch.cat(total), pulls


def cosine(x, y):
    return float(x @ y / (x.norm() * y.norm()))


def close(found, expected):
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-12)


@given(per_model | per_tensor)
@settings(max_examples=20)
def test_every_number_is_that_of_the_merge_written_out(c):
    at = POSITIONS.at(c)
    (base, *tasks), total, pulls = merged(c)
    close(at.norm, float(total.norm()))
    close(at.relative_norm, float(total.norm() / base.norm()))
    close(at.distances, [float(total.norm()), *(float((total - tau).norm()) for tau in tasks)])
    close(at.orthogonal_norm, sqrt(sum(float(pull @ pull) for pull in pulls)))
    if at.norm > 1e-6:
        close(at.cosines, [cosine(total, tau) for tau in tasks])
        assert at.shares == pytest.approx([float(pull @ total / (total @ total)) for pull in pulls], rel=1e-9, abs=1e-9)
        close(sum(at.shares), 1.0)
        close(at.interference, at.norm / at.orthogonal_norm)


def test_the_position_of_a_merge_is_that_of_what_the_method_writes():
    weights = [0.3, -0.2, 0.9]
    stacked = {name: torch.stack([each[name] for each in TUNED]) for name in BASE}
    whole = []
    for placed in DIAGNOSIS.tensors:
        tensor = merge_tensor("task_arithmetic", stacked[placed.name], BASE[placed.name], weight=weights)
        whole.append((tensor.double() - BASE[placed.name].double()).reshape(-1))
    assert POSITIONS.at(weights).norm == pytest.approx(float(torch.cat(whole).norm()), rel=1e-5)


@pytest.mark.parametrize("model", range(MODELS))
def test_a_model_by_itself_is_at_distance_zero_from_itself(model):
    alone = torch.eye(MODELS, dtype=torch.float64)[model]
    at = POSITIONS.at(alone)
    assert at.distances[1 + model] == 0.0
    close(at.cosines[model], 1.0)
    close(at.shares, alone.tolist())
    close(at.interference, 1.0)


def test_the_base_model_is_at_distance_zero_from_itself_and_nothing_pulls():
    at = POSITIONS.at([0, 0, 0])
    assert (at.norm, at.relative_norm, at.distances[0], at.interference) == (0.0, 0.0, 0.0, 1.0)
    assert at.cosines == at.shares == (0.0, 0.0, 0.0)


@given(per_tensor)
@settings(max_examples=5)
def test_layers_and_roles_are_the_merge_restricted_to_their_tensors(c):
    at = POSITIONS.at(c)
    assert [(each.stack, each.layer) for each in at.layers] == [
        ("", None), ("decoder", None), ("decoder", 0), ("decoder", 1), ("encoder", None), ("encoder", 0), ("encoder", 1)
    ]  # fmt: skip
    for each in (*at.layers[3:5], *at.roles[:2]):
        if each.role is None:
            (base, *tasks), total, _ = merged(c, lambda p, each=each: (p.stack, p.layer) == (each.stack, each.layer))
        else:
            (base, *tasks), total, _ = merged(c, lambda p, each=each: p.role == each.role)
        close(each.norm, float(total.norm()))
        close(each.relative_norm, float(total.norm() / base.norm()))
        close(each.cosines, [cosine(total, tau) for tau in tasks])
        close(sum(each.shares), 1.0)
    close(sum(each.norm**2 for each in at.layers), at.norm**2)
    close(sum(each.norm**2 for each in at.roles), at.norm**2)


def test_records_say_every_number_of_every_layer_once():
    at = POSITIONS.at([0.5, 0.5, 0.5])
    records = at.records("layer")
    assert len(records) == len(at.layers) * (3 + 2 * MODELS)
    assert {record["model"] for record in records} == {None, *DIAGNOSIS.names}
    (norm,) = [r["value"] for r in records if (r["stack"], r["layer"], r["quantity"]) == ("encoder", 1, "norm")]
    assert norm == at.layers[6].norm
    assert {record["role"] for record in at.records("role")} == {each.role for each in DIAGNOSIS.tensors}


@pytest.mark.parametrize("shape", [(2,), (4,), (TENSORS - 1, MODELS), (MODELS, TENSORS)])
def test_coefficients_of_another_shape_are_refused(shape):
    with pytest.raises(MergingError, match="coefficients have shape"):
        POSITIONS.at(torch.zeros(shape))


def test_coefficients_that_are_no_numbers_are_refused():
    with pytest.raises(MergingError, match="not a finite number"):
        POSITIONS.at([1.0, float("nan"), 0.0])


def numbers(at):
    yield from (at.norm, at.relative_norm, at.orthogonal_norm, at.interference)
    yield from (*at.cosines, *at.distances, *at.shares)
    for each in (*at.layers, *at.roles):
        yield from (each.norm, each.relative_norm, each.interference, *each.cosines, *each.shares)


def test_one_model_identical_models_and_an_untouched_one_have_numbers_everywhere():
    base, (tuned,) = matrix_models((4, 6), 1)
    for models, c in (([tuned], [0.7]), ([tuned, dict(tuned)], [0.5, -0.5]), ([tuned, base], [1.0, 3.0])):
        at = Positions(exactly_diagnosed(base, models)).at(c)
        assert all(map(isfinite, numbers(at)))
    assert at.cosines[1] == at.shares[1] == 0.0
    close(at.cosines[0], 1.0)


def test_a_zero_base_model_is_infinitely_far_in_its_own_units():
    _, (tuned,) = matrix_models((4, 6), 1)
    zero = {"w.weight": torch.zeros(4, 6)}
    positions = Positions(exactly_diagnosed(zero, [tuned]))
    assert positions.at([1.0]).relative_norm == inf
    assert positions.at([0.0]).relative_norm == 0.0
