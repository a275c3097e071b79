"""`merging diagnose` from the outside: its text, its files, its JSON, recipes, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from merging.recipe.source import open_source
from tests import tiny
from tests.command_line import Call, caller


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(capsys, "diagnose")


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tiny.Family:
    return tiny.family(tmp_path_factory.mktemp("family"), layers=3, models=2, dtype=torch.bfloat16)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_text_shows_models_cosines_places_of_conflict_and_sentences(call: Call, family: tiny.Family) -> None:
    shown = call(*family.tuned, "--base", family.base)
    assert (shown.code, shown.err) == (0, "")
    for words in ("2 models against", "30 tensors", "tuned-1", "cosines", "where signs disagree most", "\n- the "):
        assert words in shown.out, words


def test_the_second_time_nothing_is_measured_unless_asked(call: Call, family: tiny.Family, cache: Path) -> None:
    again = (*family.tuned, "--base", family.base)
    assert "from the cache" not in call(*again).out
    assert "from the cache" in call(*again).out
    assert "from the cache" not in call(*again, "--no-cache").out
    assert len(list(cache.rglob("*.safetensors"))) == 1


def test_one_model_has_no_table_of_cosines(call: Call, family: tiny.Family) -> None:
    shown = call(family.tuned[0], "--base", family.base, "--by", "layer")
    assert "cosines" not in shown.out and "layer 2" in shown.out


def test_a_recipe_stands_for_its_models_and_base(call: Call, family: tiny.Family) -> None:
    recipe = family.base.parent / "recipe.yaml"
    recipe.write_text(
        "merge_method: ties\nbase_model: base\n"
        "models: [{model: base}, {model: tuned-1}, {model: tuned-2}]\nparameters: {density: 0.2}\n"
    )
    shown = json.loads(call(recipe, "--json").out)
    assert list(shown["models"]) == ["tuned-1", "tuned-2"]
    recipe.write_text("merge_method: linear\nmodels: [{model: tuned-1}]\nparameters: {weight: 1}\n")
    refused = call(recipe)
    assert refused.code == 1 and "names no base model" in refused.err and "--base" in refused.err
    assert call(recipe, "--base", family.base).code == 0


def test_json_holds_rows_and_sentences(call: Call, family: tiny.Family) -> None:
    shown = json.loads(call(*family.tuned, "--base", family.base, "--json", "--by", "role").out)
    assert shown["tensors"] == 30 and shown["summary"] and not shown["cached"]
    assert {row["role"] for row in shown["rows"]} >= {"attention.query", "mlp.up"}


@pytest.mark.parametrize(("by", "places"), [(None, 30), ("layer", 4), ("model", 1)])
def test_the_table_goes_to_a_file_in_rows_of_choice(
    call: Call, family: tiny.Family, tmp_path: Path, by: str | None, places: int
) -> None:
    path = tmp_path / "table.csv"
    call(*family.tuned, "--base", family.base, "--table", path, *(["--by", by] if by else []))
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row["quantity"] == "cosine"]) == places


def test_spectra_join_the_table_and_the_text(call: Call, family: tiny.Family, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    shown = call(*family.tuned, "--base", family.base, "--spectra", "--table", path)
    assert "effective rank" in shown.out
    assert ",effective_rank," in path.read_text()


def test_wrong_usage_is_told_before_anything_is_read(call: Call, family: tiny.Family, tmp_path: Path) -> None:
    assert "--base BASE" in call(*family.tuned).err
    assert ".parquet" in call(*family.tuned, "--base", family.base, "--table", tmp_path / "table.txt").err
    missing = call(family.tuned[0], tmp_path / "none", "--base", family.base)
    assert missing.code == 1 and "there is no file or folder" in missing.err
    assert call(*family.tuned, "--base", family.base, "--table", tmp_path / "no" / "t.csv").code == 1


def test_spectra_take_models_that_lack_tensors_as_the_diagnosis_does(call: Call, family: tiny.Family) -> None:
    opened = open_source(str(family.base))
    base = {name: opened.read(name).reshape(spec.shape) for name, spec in opened.specs.items()}
    name = next(name for name in base if "mlp" in name)
    short = family.base.parent / "short"
    tiny.write(short, {key: 1.01 * tensor for key, tensor in base.items() if key != name}, {})
    words = (short, "--base", family.base, "--spectra", "--by", "tensor", "--json")
    assert call(*words).code == 1
    rows = json.loads(call(*words, "--missing-tensors", "base").out)["rows"]
    (row,) = [row for row in rows if (row["tensor"], row["quantity"]) == (name, "effective_rank")]
    assert row["value"] == 0
