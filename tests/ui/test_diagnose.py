"""The page that diagnoses models, and the rows of its charts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

from merging import Diagnosis, MemoryCheckpoint, diagnose, find_zoo
from ui import diagnosing

VIEW = Path(__file__).parent.parent.parent / "ui" / "views" / "diagnose.py"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return AppTest.from_file(str(VIEW), default_timeout=120).run()


@pytest.fixture
def found() -> Diagnosis:
    """Two models of two layers; the second undoes what the first does to the MLP of layer 1."""
    generator = torch.Generator().manual_seed(0)
    names = [f"model.layers.{i}.{part}.weight" for i in range(2) for part in ("self_attn.q_proj", "mlp.up_proj")]
    base = {name: torch.randn(6, 6, generator=generator) for name in [*names, "model.norm.weight"]}
    first = {name: x + torch.randn(x.shape, generator=generator) for name, x in base.items()}
    second = {name: 2 * x - first[name] if "1.mlp" in name else first[name] for name, x in base.items()}
    config = {"model_type": "llama", "num_hidden_layers": 2}
    models = [MemoryCheckpoint(each, config, name) for each, name in ((first, "one"), (second, "two"))]
    return diagnose(models, MemoryCheckpoint(base, config, "base"), cache=False)


def test_the_bundled_models_are_diagnosed_at_once_and_remembered(page: AppTest, tmp_path: Path) -> None:
    assert not page.exception
    assert list(page.dataframe[0].value["model"]) == list(find_zoo().tasks)[:4]
    assert len(list((tmp_path / "merging" / "diagnoses").iterdir())) == 1
    assert len(page.tabs) == 6


def test_a_model_that_does_not_fit_is_an_error_with_its_reason(page: AppTest) -> None:
    page.multiselect(key="diagnose_models").set_value([str(find_zoo().folder / "images")]).run()
    assert not page.exception
    assert page.error


def test_spectra_are_worked_out_when_asked_and_shown_again_at_every_later_look(page: AppTest) -> None:
    shown = len(page.dataframe)
    page.number_input(key="spectra_largest").set_value(1).run()
    page.button(key="spectra_start").click().run()
    page.run()
    assert not page.exception
    assert len(page.dataframe) == shown + 1


def test_no_model_chosen_is_said(page: AppTest) -> None:
    page.multiselect(key="diagnose_models").set_value([]).run()
    assert "Choose a base model" in page.info[0].value


def test_conflict_shows_where_models_undo_each_other(found: Diagnosis) -> None:
    rows = {(row["layer"], row["part"]): row["value"] for row in diagnosing.layer_by_part(found, "mass_conflict")}
    assert rows[("1", "mlp")] == pytest.approx(1.0)
    assert rows[("0", "mlp")] == pytest.approx(0.0, abs=1e-6)
    assert list(rows)[-1] == ("outside", "norm")


def test_a_square_of_pairs_is_symmetric_with_ones_on_the_diagonal(found: Diagnosis) -> None:
    rows = diagnosing.square(found.table(by="model"), "cosine", found.names)
    value = {(row["a"], row["b"]): row["value"] for row in rows}
    assert value[("one", "one")] == 1.0
    assert value[("one", "two")] == value[("two", "one")]
    assert -1 < value[("one", "two")] < 1


def test_layers_are_told_apart_from_what_stands_outside(found: Diagnosis) -> None:
    rows = diagnosing.by_layer(found.table(by="layer").where(quantity="norm"), found.names)
    assert {row["layer"] for row in rows} == {0, 1}
    assert {row["model"] for row in rows} == {"one", "two"}


def test_a_long_curve_is_thinned_but_keeps_its_ends() -> None:
    density, share = torch.linspace(0, 1, 1000), torch.linspace(0, 1, 1000)
    rows = diagnosing.curves([("one", density, share)], points=10)
    assert len(rows) < 15
    assert (rows[0]["density"], rows[-1]["density"], rows[-1]["norm"]) == (0.0, 1.0, 1.0)
