"""Relative paths in a recipe become absolute ones, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from merging.jobs.anchor import anchored
from merging.recipe.text import read_recipe
from tests.store.stores import kept_of

COMPANIONS = "{fisher: stats}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("base", "my tuned", "other", "stats", "adapter"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_paths_are_exchanged_where_they_stand_and_comments_stay(folder: Path) -> None:
    text = (
        "# three models\nmerge_method: ties\nbase_model:   'base'  # common\nmodels:\n"
        '  - {model: "my tuned", parameters: {weight: 0.5}}\n  - model: base+adapter\n'
        f"    companions: {COMPANIONS}\n  - model: other\ntokenizer_source: other\n"
    )
    moved = anchored(text, read_recipe(text), folder)
    expected = text.replace("'base'", f'"{folder}/base"').replace('"my tuned"', f'"{folder}/my tuned"')
    expected = expected.replace("base+adapter", f'"{folder}/base+{folder}/adapter"')
    expected = expected.replace("fisher: stats", f'fisher: "{folder}/stats"')
    expected = expected.replace("model: other", f'model: "{folder}/other"')
    assert moved == expected.replace("source: other", f'source: "{folder}/other"')


def test_what_is_spelled_in_another_way_is_written_anew_with_the_same_meaning(folder: Path) -> None:
    text = (
        'merge_method: linear\nmodels:\n- model: "\\x6fther"\n  parameters: {weight: 1}\n'
        "- model: &b base\n- model: *b\n"
    )
    moved = read_recipe(anchored(text, read_recipe(text), folder))
    assert [entry.source for entry in moved.models] == [f"{folder}/{name}" for name in ("other", "base", "base")]
    assert moved.models[0].parameters == read_recipe(text).models[0].parameters


def test_absolute_missing_and_home_paths_stay_as_they_are(folder: Path) -> None:
    text = f"merge_method: linear\nmodels: [{{model: {folder}/base}}, {{model: org/name}}, {{model: ~/models/a}}]\n"
    assert anchored(text, read_recipe(text), folder) == text


def test_slices_are_moved_too(folder: Path) -> None:
    text = (
        "merge_method: passthrough\nslices:\n- sources:\n  - {model: base, layer_range: [0, 1]}\n"
        "- sources:\n  - model: other\n    layer_range: [1, 2]\n"
    )
    moved = read_recipe(anchored(text, read_recipe(text), folder))
    assert moved.sources() == (f"{folder}/base", f"{folder}/other")


def test_repositories_on_the_hub_stay_as_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    text = "merge_method: linear\nmodels:\n- model: hf://ada/base\n- model: ada/other@main\n- model: tuned\n"
    found = anchored(text, read_recipe(text), tmp_path)
    assert found == text.replace("model: tuned", f'model: "{tmp_path / "tuned"}"')


def test_an_adapter_here_on_a_base_of_the_hub_is_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    text = "merge_method: linear\nmodels:\n- model: ada/base+lora\n"
    assert f"hf://ada/base+{tmp_path / 'lora'}" in anchored(text, read_recipe(text), tmp_path)


def test_a_task_of_a_store_stays_one(tmp_path: Path) -> None:
    kept_of(tmp_path, kind="llama", models=2)
    text = "merge_method: passthrough\nmodels:\n- model: store:store#tuned-1\n"
    moved = anchored(text, read_recipe(text), tmp_path)
    assert read_recipe(moved).sources() == (f"store:{tmp_path}/store#tuned-1",)
