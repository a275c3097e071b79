from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.analysis.matrices import Limits, over_matrices
from merging.analysis.spectra import LEADING, QUANTITIES, spectra
from merging.checkpoint.tensors import MemoryCheckpoint
from merging.errors import MergingError, OutputError
from tests import tiny
from tests.analysis.toys import matrix_models, orthogonal


def measured(base, *tuned, **options):
    return spectra(
        [MemoryCheckpoint(each, {}, f"m{i}") for i, each in enumerate(tuned)], MemoryCheckpoint(base), **options
    )


def value(table, quantity, **where):
    (row,) = table.where(quantity=quantity, **where)
    return row.value


def naive(tau):
    """Every number of one model, from numpy's own decomposition."""
    s = np.linalg.svd(tau.double().numpy(), compute_uv=False)
    energy = s**2 / (s**2).sum()
    p = s / s.sum()
    entropy = -sum(x * np.log(x) for x in p if x > 0)
    needed = {}
    for share in (0.9, 0.99):
        held, k = 0.0, 0
        while held < share:
            held, k = held + energy[k], k + 1
        needed[share] = k
    return {
        "effective_rank": np.exp(entropy),
        "participation": 1 / (energy**2).sum(),
        "stable_rank": 1 / energy[0],
        "rank_90": needed[0.9],
        "rank_99": needed[0.99],
    }


@pytest.mark.parametrize("shape", [(12, 12), (7, 20), (20, 7), (6, 2, 3, 2)])
def test_every_number_is_that_of_a_plain_decomposition(shape):
    base, (tuned,) = matrix_models(shape, 1)
    table = measured(base, tuned)
    tau = (tuned["w.weight"].double() - base["w.weight"].double()).reshape(shape[0], -1)
    for quantity, expected in naive(tau).items():
        assert value(table, quantity) == pytest.approx(expected, rel=1e-9), quantity
    found = [row.value for row in table.where(quantity="singular_value")]
    np.testing.assert_allclose(found, np.linalg.svd(tau.numpy(), compute_uv=False), rtol=1e-9)
    assert [row.j for row in table.where(quantity="singular_value")] == [str(k + 1) for k in range(len(found))]


@given(st.integers(1, 8), st.integers(0, 100))
@settings(max_examples=15)
def test_an_adapter_of_equal_directions_has_its_rank_by_every_measure(rank, seed):
    base = {"w.weight": torch.zeros(24, 16, dtype=torch.float64)}
    update = orthogonal(24, seed)[:, :rank] @ orthogonal(16, seed + 1)[:rank]
    table = measured(base, {"w.weight": update})
    for quantity in ("effective_rank", "participation", "stable_rank", "rank_99"):
        assert value(table, quantity) == pytest.approx(rank, rel=1e-6), quantity


@given(st.integers(0, 100), st.floats(1e-3, 1e3))
@settings(max_examples=15)
def test_ranks_do_not_depend_on_scale_and_keep_their_order(seed, scale):
    base, (tuned,) = matrix_models((10, 14), 1, seed)
    start = base["w.weight"].double()
    larger = {"w.weight": start + scale * (tuned["w.weight"].double() - start)}
    ours, theirs = measured(base, tuned), measured(base, larger)
    for quantity in ("effective_rank", "participation", "stable_rank", "rank_90"):
        assert value(ours, quantity) == pytest.approx(value(theirs, quantity), rel=1e-6)
    assert 1 <= value(ours, "stable_rank") <= value(ours, "participation") * (1 + 1e-9)
    assert value(ours, "participation") <= value(ours, "effective_rank") * (1 + 1e-9) <= 10 * (1 + 1e-8)


@pytest.mark.parametrize("shape", [(9, 15), (15, 9)])
def test_overlaps_are_the_mean_squared_cosines_of_principal_angles(shape):
    base, tuned = matrix_models(shape, 2)
    table = measured(base, *tuned)
    decomposed = [np.linalg.svd((each["w.weight"].double() - base["w.weight"].double()).numpy()) for each in tuned]
    k = int(min(value(table, "rank_90", i=name) for name in ("m0", "m1")))
    assert value(table, "overlap_rank", i="m0", j="m1") == k
    for quantity, bases in (
        ("overlap_left", [u[:, :k] for u, _, _ in decomposed]),
        ("overlap_right", [vt[:k].T for _, _, vt in decomposed]),
    ):
        cosines = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
        assert value(table, quantity) == pytest.approx((cosines**2).mean(), rel=1e-9)


def test_overlap_tells_a_shared_output_space_from_a_shared_input_space():
    u, v = orthogonal(16, 1), orthogonal(16, 2)
    base = {"w.weight": torch.zeros(16, 16, dtype=torch.float64)}
    one = {"w.weight": u[:, :3] @ v[:3]}
    other = {"w.weight": u[:, :3] @ v[3:6]}
    table = measured(base, one, other)
    assert value(table, "overlap_left") == pytest.approx(1)
    assert value(table, "overlap_right") == pytest.approx(0, abs=1e-12)


def test_an_untouched_matrix_has_rank_zero_and_overlaps_nothing():
    base, (tuned,) = matrix_models((8, 8), 1)
    table = measured(base, tuned, base)
    assert {value(table, quantity, i="m1") for quantity in ("effective_rank", "stable_rank", "rank_90")} == {0.0}
    assert not table.where(quantity="overlap_left")


def test_an_entry_that_is_no_number_shows_in_every_row_of_its_model_only():
    base, (tuned, broken) = matrix_models((8, 6), 2)
    broken["w.weight"][2, 3] = torch.nan
    table = measured(base, tuned, broken)
    assert all(np.isnan(row.value) for row in table.where(i="m1"))
    assert all(np.isfinite(row.value) for row in table.where(i="m0", j=None))
    assert np.isnan(value(table, "overlap_left"))


def test_fused_projections_are_three_matrices_and_tables_of_words_none(tmp_path):
    family = tiny.family(tmp_path, "gpt2", models=1)
    table = spectra(family.tuned, family.base, quantities=("rank_90", "stable_rank"))
    roles = {row.role for row in table.where(layer=0)}
    assert {f"attention.query_key_value.{part}" for part in (1, 2, 3)} | {"mlp.up", "mlp.down"} <= roles
    assert not [row for row in table if row.role.startswith("embedding")]
    assert {row.i for row in table} == {"tuned-1"}


def test_only_asked_quantities_come_in_the_order_of_the_tensors_whatever_the_workers(tmp_path):
    family = tiny.family(tmp_path, "llama", models=2, dtype=torch.bfloat16)
    seen = []
    one = spectra(family.tuned, family.base, quantities=("rank_90",), workers=1)
    many = spectra(
        family.tuned, str(family.base), quantities=("rank_90",), workers=3, watch=lambda *at: seen.append(at)
    )
    assert one.rows == many.rows
    assert {row.quantity for row in one} == {"rank_90"}
    assert [row.tensor for row in one.where(i="tuned-1")] == list(dict.fromkeys(row.tensor for row in one))
    assert seen == [(k + 1, 14) for k in range(14)]


def test_only_the_largest_matrices_can_be_asked_for(tmp_path):
    family = tiny.family(tmp_path, "llama", models=1)
    table = spectra(family.tuned, family.base, quantities=("rank_90",), largest=4)
    assert [row.role.partition(".")[0] for row in table] == ["mlp"] * 4
    assert [row.layer for row in table] == [0, 0, 0, 1]


def test_leading_singular_values_are_capped():
    base, (tuned,) = matrix_models((70, 80), 1)
    assert len(measured(base, tuned, quantities=("singular_value",))) == LEADING


def test_an_unknown_quantity_and_too_little_memory_are_refused():
    base, (tuned,) = matrix_models((8, 8), 1)
    with pytest.raises(MergingError, match="no 'stable_rnk'") as caught:
        measured(base, tuned, quantities=("stable_rnk",))
    assert "stable_rank" in caught.value.fix
    with pytest.raises(OutputError, match="takes"):
        measured(base, tuned, memory=1000)


def test_an_error_while_measuring_comes_out_of_the_walk():
    base, (tuned,) = matrix_models((8, 8), 1)

    def broken(*_):
        raise ArithmeticError("on purpose")

    with pytest.raises(ArithmeticError, match="on purpose"):
        over_matrices([MemoryCheckpoint(tuned)], MemoryCheckpoint(base), broken, lambda *_: 0, Limits())


def test_all_quantities_of_the_docstring_are_those_of_the_table():
    base, tuned = matrix_models((8, 8), 2)
    assert {row.quantity for row in measured(base, *tuned)} == set(QUANTITIES)


def test_models_that_lack_or_add_matrices_fit_as_in_a_diagnosis():
    small, (first, second) = matrix_models((6, 6), 2)
    base, one, other = ({**each, "v.weight": torch.eye(4) + i} for i, each in enumerate((small, first, second)))
    extra, name = torch.eye(3), "w.weight"
    short = {key: tensor for key, tensor in one.items() if key != name}
    with pytest.raises(MergingError, match="lacks"):
        measured(base, short, other)
    table = measured(base, short, other, missing_tensors="base")
    assert value(table, "effective_rank", tensor=name, i="m0") == 0
    assert value(table, "effective_rank", tensor=name, i="m1") == value(
        measured(base, one, other), "effective_rank", tensor=name, i="m1"
    )
    assert len(measured(base, {**one, "more": extra}).where(tensor="more")) == 0
    with pytest.raises(MergingError, match="more"):
        measured(base, {**one, "more": extra}, extra_tensors="refuse")
