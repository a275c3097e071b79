"""Diagnoses against loops in float64, on every kind of input; the same whatever the workers; refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from merging.analysis.diagnose import BLOCK, LARGE, SAMPLED, density_curve, diagnose
from merging.analysis.magnitudes import lower_ends
from merging.checkpoint.tensors import MemoryCheckpoint
from merging.errors import MergingError, RecipeError
from tests import tiny
from tests.analysis import transcribed
from tests.analysis.vectors import FIELDS, equal, of_tensors, vectors
from tests.checkpoint.test_adapters import adapted, linear


def promised(quantity: str) -> dict[str, float]:
    """How near a quantity comes: what is read from bins by their width, all else to the rounding of float32."""
    if quantity.startswith("threshold"):
        return {"rel": 0.13}
    if quantity.startswith("kept_norm"):
        return {"abs": 0.02}
    return {"abs": 4e-3} if quantity == "outliers" else {"rel": 2e-5, "abs": 3e-7}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("models", [1, 2, 3, 6, 12])
def test_every_quantity_is_what_loops_in_float64_find(models: int, dtype: torch.dtype) -> None:
    base, *tuned = vectors(models, dtype=dtype)
    found = of_tensors({"w": base}, [{"w": each} for each in tuned])
    expected = transcribed.quantities(base.float().numpy(), [each.float().numpy() for each in tuned])
    at = {name: i for i, name in enumerate(found.names)} | {None: None}
    rows = {(row.quantity, at[row.i], at[row.j]): row.value for row in found.table() if row.quantity != "non_finite"}
    assert rows.keys() == expected.keys()
    for key, value in expected.items():
        assert rows[key] == pytest.approx(value, **promised(key[0])), key


@pytest.mark.parametrize("models", [2, 5, 8, 11])
def test_signs_of_few_and_of_many_models_are_counted_exactly(models: int) -> None:
    base, *tuned = vectors(models, entries=513, dtype=torch.bfloat16)
    found = of_tensors({"w": base}, [{"w": each} for each in tuned])
    signs = torch.stack([torch.sign(each.double() - base.double()) for each in tuned])
    assert torch.equal(found.signs[0], signs @ signs.T)
    assert torch.equal(found.shared[0], signs.abs() @ signs.abs().T)
    several = (signs.abs().sum(0) >= 2).sum()
    disputed = ((signs.amin(0) < 0) & (signs.amax(0) > 0)).sum()
    assert found.disputed[0].tolist() == [several, disputed]


def test_magnitudes_are_counted_in_the_bins_of_half_precision() -> None:
    base, tuned = vectors(1)
    found = of_tensors({"w": base}, [{"w": tuned}]).magnitudes[0, 0]
    bits = np.abs((tuned - base).numpy() * 4096).astype(np.float16).view(np.uint16) >> 7
    expected = np.bincount(bits + 1, minlength=250)
    zeros = int((tuned == base).sum())
    expected[1] -= zeros
    expected[0] = zeros
    assert found.tolist() == expected.tolist()


def test_magnitudes_of_a_large_tensor_are_counted_by_a_sample_that_adds_up_to_all_entries() -> None:
    base, *tuned = vectors(2, entries=LARGE + 999, dtype=torch.bfloat16)
    found = of_tensors({"w": base}, [{"w": each} for each in tuned])
    half = LARGE // 2
    parts = of_tensors(
        {"a": base[:half], "b": base[half:LARGE], "c": base[LARGE:]},
        [{"a": each[:half], "b": each[half:LARGE], "c": each[LARGE:]} for each in tuned],
    )
    counts, exact = found.magnitudes[0], parts.magnitudes.sum(0)
    assert counts.sum(1).tolist() == exact.sum(1).tolist() == [LARGE + 999] * 2
    assert torch.equal(counts[:, 0], exact[:, 0])
    assert not torch.equal(counts, exact)
    # Of what is met one time in SAMPLED, the deviation is that of a binomial count, scaled.
    assert bool(((counts - exact).abs() <= 6 * (SAMPLED * exact.clamp(min=1)).sqrt()).all())
    for field in ("signs", "shared", "disputed", "largest"):
        whole, added = getattr(found, field)[0], getattr(parts, field)
        assert torch.equal(whole, added.amax(0) if field == "largest" else added.sum(0)), field


@pytest.mark.parametrize("changed", [1, 3])
def test_a_change_too_small_for_the_sample_to_meet_has_its_place_among_the_magnitudes(changed: int) -> None:
    base, tuned = torch.zeros(LARGE), torch.zeros(LARGE)
    # The first block is sampled from its first entry on.
    tuned[[SAMPLED * i + 1 for i in range(changed)]] = 0.25
    found = of_tensors({"w": base}, [{"w": tuned}]).magnitudes[0, 0]
    assert found[0] == LARGE - changed
    assert found.nonzero()[-1] == int((lower_ends() == 0.25).nonzero()) and found[-1] == 0
    assert int(found.sum()) == LARGE


def test_a_row_or_a_column_alone_is_met_by_the_sample() -> None:
    rows, columns = LARGE // 1024, 1024
    base = torch.zeros(rows, columns)
    by_row, by_column = base.clone(), base.clone()
    by_row[rows // 2] = 0.5
    by_column[:, 5] = 0.5
    found = of_tensors({"w": base}, [{"w": by_row}, {"w": by_column}]).magnitudes[0]
    place = int((lower_ends() == 0.5).nonzero())
    assert found[:, place].tolist() == [columns, rows]


def test_layers_roles_and_models_add_sums_up_before_they_take_ratios() -> None:
    tensors, config = tiny.llama(layers=3)
    models = [tiny.fine_tuned(tensors, seed) for seed in (1, 2)]
    opened = [MemoryCheckpoint(model, config, f"m{i}") for i, model in enumerate(models)]
    found = diagnose(opened, MemoryCheckpoint(tensors, config, "base"), cache=False)
    inside = [name for name in tensors if ".layers.1." in name]
    base, *tuned = [np.concatenate([each[name].numpy().ravel() for name in inside]) for each in (tensors, *models)]
    expected = transcribed.quantities(base, tuned)
    rows = found.table("layer").where(layer=1)
    for quantity in ("norm", "relative_norm", "changed", "largest", "kurtosis"):
        assert [row.value for row in rows.where(quantity=quantity)] == pytest.approx(
            [expected[quantity, i, None] for i in (0, 1)], rel=1e-5
        )
    assert rows.where(quantity="cosine").rows[0].value == pytest.approx(expected["cosine", 0, 1], abs=1e-6)
    assert {row.role for row in found.table("role")} >= {"attention.query", "mlp.down", "embedding"}
    assert {(row.layer, row.role) for row in found.table(("layer", "role"))} >= {(0, "norm"), (2, "mlp.up")}
    assert {row[:4] for row in found.table("model")} == {(None, None, None, None)}
    assert {row.entries for row in found.table("model")} == {sum(each.numel() for each in tensors.values())}


def test_workers_change_no_bit_of_a_tensor_of_many_blocks() -> None:
    base, *tuned = vectors(2, entries=2 * BLOCK + 12_345, dtype=torch.bfloat16)
    other = vectors(2, entries=77, seed=1)
    args = {"w": base, "v": other[0]}, [{"w": tuned[0], "v": other[1]}, {"w": tuned[1], "v": other[2]}]
    found = of_tensors(*args, workers=1)
    assert equal(found, of_tensors(*args, workers=3))
    assert equal(found, of_tensors(*args, workers=2, memory=12 << 20))
    assert int(found.magnitudes[0].sum()) == 2 * (2 * BLOCK + 12_345)


def test_tensors_cut_in_two_add_up_to_the_whole() -> None:
    base, *tuned = vectors(3, entries=5000)
    whole = of_tensors({"w": base}, [{"w": each} for each in tuned])
    parts = of_tensors({"a": base[:1234], "b": base[1234:]}, [{"a": each[:1234], "b": each[1234:]} for each in tuned])
    for field in FIELDS:
        held, added = getattr(whole, field)[0], getattr(parts, field)
        torch.testing.assert_close(held, added.amax(0) if field == "largest" else added.sum(0), rtol=1e-5, atol=1e-9)


def test_adapters_are_diagnosed_as_the_models_they_make(tmp_path: Path) -> None:
    tensors, config = tiny.llama()
    base = MemoryCheckpoint(tensors, config, "base")
    model = adapted(tmp_path, tensors, linear("model.layers.0.self_attn.q_proj", 64, 64))
    found = diagnose([model], base, cache=False)
    changed = [tensor.name for i, tensor in enumerate(found.tensors) if found.signs[i, 0, 0]]
    assert changed == ["model.layers.0.self_attn.q_proj.weight"]
    tau = model.read(changed[0]) - tensors[changed[0]].reshape(-1)
    row = found.table().where(tensor=changed[0], quantity="norm").rows[0]
    assert row.value == pytest.approx(float(tau.double().norm()), rel=1e-6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_entries_that_are_not_finite_are_counted_and_left_out(value: float) -> None:
    base, *tuned = vectors(2)
    spoilt = tuned[0].clone()
    spoilt[[3, 700]] = value
    found = of_tensors({"w": base}, [{"w": spoilt}, {"w": tuned[1]}])
    mended = tuned[0].clone()
    mended[[3, 700]] = base[[3, 700]]
    expected = of_tensors({"w": base}, [{"w": mended}, {"w": tuned[1]}])
    assert found.non_finite.tolist() == [[0, 2, 0]]
    for field in FIELDS[:-1]:
        torch.testing.assert_close(getattr(found, field), getattr(expected, field), rtol=1e-5, atol=1e-9)


def test_entries_that_are_not_finite_in_the_base_model_spoil_nothing_else() -> None:
    base, *tuned = vectors(2)
    base[5] = torch.nan
    found = of_tensors({"w": base}, [{"w": each} for each in tuned])
    assert found.non_finite.tolist() == [[1, 0, 0]]
    assert bool(torch.isfinite(found.gram).all())


def test_huge_numbers_are_finite_although_their_squares_overflow_float32() -> None:
    base, tuned = torch.zeros(4), torch.tensor([3e38, -3e38, 1e20, 1.0])
    found = of_tensors({"w": base}, [{"w": tuned}])
    assert found.non_finite.tolist() == [[0, 0]]
    assert float(found.gram[0, 1, 1]) == pytest.approx(float((tuned.double() ** 2).sum()))
    assert float(found.largest[0, 0]) == pytest.approx(3e38)


def test_integers_buffers_and_repeated_tensors_are_not_measured() -> None:
    tensors, config = tiny.llama(layers=1, tied=True)
    stored = {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone(), "steps": torch.tensor([7])}
    opened = [MemoryCheckpoint(stored, config, name) for name in ("base", "m")]
    found = diagnose(opened[1:], opened[0], cache=False)
    names = [tensor.name for tensor in found.tensors]
    assert "steps" not in names and "lm_head.weight" not in names and "model.embed_tokens.weight" in names


def test_empty_tensors_and_models_without_numbers_are_diagnosed_as_nothing() -> None:
    empty = {"w": torch.zeros(0, 3), "n": torch.tensor(1.0)}
    found = of_tensors(empty, [empty])
    assert found.magnitudes[0].sum() == 0
    assert len(found.table()) > 0 and len(found.table("model")) > 0
    nothing = of_tensors({"n": torch.tensor([1, 2])}, [{"n": torch.tensor([1, 2])}])
    assert nothing.tensors == () and len(nothing.table("tensor")) == 0


def test_what_is_not_defined_of_an_unchanged_model_has_no_row() -> None:
    base, tuned = vectors(1)
    found = of_tensors({"w": base}, [{"w": base}, {"w": tuned}]).table()
    assert [row.value for row in found.where(quantity="norm", i="m0")] == [0.0]
    assert not found.where(quantity=["cosine", "kurtosis", "kept_norm_20"], i="m0").rows


def test_the_base_model_may_be_diagnosed_as_one_of_the_models(tmp_path: Path) -> None:
    family = tiny.family(tmp_path, models=1)
    found = diagnose([family.base, family.tuned[0], family.tuned[0]], family.base, cache=False)
    assert found.gram[:, 1, 1].sum() == 0
    assert float(found.table("model").where(quantity="distance", j="tuned-1 (2)", i="tuned-1").rows[0].value) == 0.0


def test_all_that_is_missing_or_misshapen_is_refused_at_once() -> None:
    base = {"a": torch.zeros(3), "b": torch.zeros(4), "c": torch.zeros(2, 2)}
    with pytest.raises(MergingError) as refused:
        of_tensors(base, [{"a": torch.zeros(3), "c": torch.zeros(2, 3)}])
    assert "'b'" in str(refused.value) or " b" in str(refused.value)
    assert "2, 3" in str(refused.value)
    lent = of_tensors({"a": base["a"], "b": base["b"]}, [{"a": torch.ones(3)}], missing_tensors="base")
    assert lent.table().where(tensor="b", quantity="norm").rows[0].value == 0


def test_every_model_that_cannot_be_opened_is_named() -> None:
    with pytest.raises(MergingError) as refused:
        diagnose(["no/such/a", "no/such/b"], "no/such/base")
    assert all(name in str(refused.value) for name in ("no/such/a", "no/such/b", "no/such/base"))
    with pytest.raises(RecipeError):
        diagnose([], "no/such/base")


def test_progress_ends_with_all_bytes() -> None:
    base, *tuned = vectors(2, dtype=torch.bfloat16)
    told: list[tuple[int, int]] = []
    of_tensors({"w": base}, [{"w": each} for each in tuned], watch=lambda *seen: told.append(seen))
    assert told[-1] == (3 * 2 * 1000, 3 * 2 * 1000)


def test_a_density_curve_rises_to_the_whole_norm_at_the_entries_that_changed() -> None:
    base, tuned = vectors(1, entries=20_000)
    found = of_tensors({"w": base, "v": base}, [{"w": tuned, "v": base}])
    density, share = density_curve(found, 0, ["w"])
    ordered = (tuned - base).double().abs().sort(descending=True).values.square().cumsum(0)
    assert float(density[-1]) == pytest.approx(float((tuned != base).double().mean()))
    assert float(share[-1]) == pytest.approx(1.0)
    assert bool((share.diff() > 0).all())
    exact = ordered[(density[1:] * 20_000).round().long() - 1] / ordered[-1]
    torch.testing.assert_close(share[1:], exact, rtol=0, atol=0.01)
    whole, _ = density_curve(found, 0)
    assert float(whole[-1]) == pytest.approx(float(density[-1]) / 2)
