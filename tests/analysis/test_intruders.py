from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.analysis.intruders import intruders, recount
from merging.checkpoint.tensors import MemoryCheckpoint
from merging.errors import MergingError
from tests import tiny
from tests.analysis.toys import decaying, orthogonal
from tests.tiny_shapes import normal


def counted(base, *tuned, **options):
    models = [MemoryCheckpoint({"w.weight": each}, {}, f"m{i}") for i, each in enumerate(tuned)]
    return intruders(models, MemoryCheckpoint({"w.weight": base}), **options)


def count(table, model="m0"):
    (row,) = table.where(quantity="intruders", i=model)
    return row.value


def outside(base, rank, seed=7):
    """A low-rank update that writes to directions which mix all of the base's, each a little."""
    u, _, vt = torch.linalg.svd(base, full_matrices=False)
    mix = orthogonal(u.shape[1], seed)[:, :rank]
    return (u @ mix) @ (orthogonal(vt.shape[0], seed + 1)[:rank] @ vt)


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_cosines_and_counts_are_those_of_plain_decompositions(shape):
    base = decaying(*shape)
    tuned = base + 0.5 * outside(base, 3) + 0.01 * normal(shape, "noise", 1).double()
    table = counted(base, tuned, top=6)
    u0 = np.linalg.svd(base.numpy(), full_matrices=False)[0]
    u, s, _ = np.linalg.svd(tuned.numpy(), full_matrices=False)
    expected = [max(abs(float(u[:, k] @ u0[:, i])) for i in range(u0.shape[1])) for k in range(6)]
    found = [row.value for row in table.where(quantity="base_cosine")]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(
        [row.value for row in table.where(quantity="fine_tuned_singular_value")], s[:6], rtol=1e-9
    )
    assert count(table) == sum(cosine < 0.5 for cosine in expected)


def test_a_strong_low_rank_update_plants_its_rank_of_intruders_and_small_noise_of_full_rank_none():
    base = decaying(48, 64)
    adapter = base + 2 * outside(base, 3)
    noise = normal((48, 64), "noise", 0).double()
    full = base + noise * 0.05 * base.norm() / noise.norm()
    table = counted(base, adapter, full)
    assert (count(table, "m0"), count(table, "m1")) == (3, 0)
    planted = [row.j for row in table.where(quantity="base_cosine", i="m0") if row.value < 0.5]
    assert planted == ["1", "2", "3"]


def test_the_base_model_itself_has_no_intruders():
    base = decaying(12, 20)
    table = counted(base, base.clone(), top=12, epsilon=0.999)
    assert count(table) == 0


def test_scaling_and_strengthening_known_directions_intrudes_nothing():
    base = decaying(16, 16)
    u, s, vt = torch.linalg.svd(base)
    assert count(counted(base, (u * s.flip(0)) @ vt, top=16, epsilon=0.99)) == 0


def test_another_epsilon_is_counted_from_the_same_table():
    base = decaying(24, 24)
    tuned = base + 0.3 * outside(base, 4)
    table = counted(base, tuned)
    for epsilon in (0.3, 0.7, 0.9):
        assert recount(table, epsilon).rows == counted(base, tuned, epsilon=epsilon).rows
    counts = [count(recount(table, epsilon)) for epsilon in (0.3, 0.5, 0.7, 0.9, 1.0)]
    assert counts == sorted(counts)


def test_directions_in_which_nothing_happens_are_not_looked_at():
    base = decaying(12, 12)
    table = counted(base, base[:, :2] @ torch.ones(2, 12, dtype=torch.float64), torch.zeros(12, 12))
    assert len(table.where(quantity="base_cosine", i="m0")) == 1
    assert len(table.where(quantity="base_cosine", i="m1")) == 0
    assert count(table, "m1") == 0


def test_what_is_no_number_is_counted_as_no_number():
    base = decaying(8, 8)
    broken = base.clone()
    broken[0, 0] = torch.inf
    assert np.isnan(count(counted(base, broken)))


def test_every_matrix_of_a_model_is_counted_and_counts_add_up_by_layer(tmp_path):
    family = tiny.family(tmp_path, "bert", models=2)
    table = intruders(family.tuned, family.base, top=3)
    per_layer = table.where(quantity="intruders").by("layer")
    assert {(row.layer, row.i) for row in per_layer if row.layer is not None} == {
        (layer, name) for layer in (0, 1) for name in ("tuned-1", "tuned-2")
    }
    assert len(table.where(quantity="intruders", layer=0, i="tuned-1")) == 6


@pytest.mark.parametrize("options", [{"top": 0}, {"epsilon": 0.0}, {"epsilon": 1.5}])
def test_options_out_of_bounds_are_refused(options):
    base = decaying(4, 4)
    with pytest.raises(MergingError, match=r"cannot be looked at|epsilon is"):
        counted(base, base, **options)
