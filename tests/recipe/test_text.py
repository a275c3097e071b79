"""Reading, writing and reading back; where things stand."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.errors import MergingError, Problems, RecipeError
from merging.recipe.recipe import ModelEntry, Recipe, Setting
from merging.recipe.text import read_recipe, recipe_from_data
from tests.recipe.strategies import recipes

few = settings(max_examples=50)
LINEAR = "models:\n- model: a\n- model: b\nmerge_method: linear\n"


@few
@given(recipes())
def test_text_reads_back_equal(recipe: Recipe) -> None:
    assert read_recipe(recipe.text()) == recipe


@few
@given(recipes())
def test_data_is_json_and_reads_back_equal(recipe: Recipe) -> None:
    assert recipe_from_data(json.loads(json.dumps(recipe.data()))) == recipe


@few
@given(recipes())
def test_the_canonical_form_is_a_fixed_point(recipe: Recipe) -> None:
    assert read_recipe(recipe.text()).data() == recipe.data()
    assert read_recipe(recipe.text()).text() == recipe.text()


@few
@given(recipes())
def test_a_recipe_survives_pickling(recipe: Recipe) -> None:
    assert pickle.loads(pickle.dumps(recipe)) == recipe


@given(st.text())
def test_any_text_is_read_or_refused_by_our_own_errors(text: str) -> None:
    try:
        read_recipe(text + "\n")
    except MergingError as error:
        assert str(error)


@given(st.lists(st.sampled_from("\n\n  -:[]{}&*!?|>'\"#%@`,ab1.~<"), max_size=40).map("".join))
def test_any_yaml_like_text_is_read_or_refused_by_our_own_errors(text: str) -> None:
    try:
        read_recipe(LINEAR + text)
    except MergingError as error:
        assert str(error)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused_by_our_own_errors(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("recipes") / "any.yaml"
    path.write_bytes(content)
    with pytest.raises(MergingError):
        read_recipe(path)


def test_every_field_knows_its_place(tmp_path: Path) -> None:
    path = tmp_path / "math.yaml"
    path.write_text("models:\n- model: a\n- model: b\n  parameters:\n    weight: [0.1, 0.2]\nmerge_method: linear\n")
    recipe = read_recipe(path)
    assert recipe.where("models", 1) == f"{path} line 3, column 3, models[1]"
    assert recipe.where("models", 1, "parameters", "weight") == f"{path} line 5, column 5, models[1].parameters.weight"
    assert recipe.where("models", 1, "parameters", "weight", 1).endswith(
        "line 5, column 19, models[1].parameters.weight[1]"
    )
    assert recipe.where("merge_method") == f"{path} line 6, column 1, merge_method"


def test_a_field_that_is_not_written_has_the_place_of_its_block() -> None:
    recipe = read_recipe(LINEAR)
    assert recipe.where("models", 1, "parameters", "weight") == "recipe line 3, column 3, models[1]"
    assert recipe.where("parameters", "weight") == "recipe line 1, column 1"
    assert Recipe("linear", (ModelEntry("a"),)).where("models", 0, "parameters") == "models[0].parameters"
    assert Recipe("linear", (ModelEntry("a"),)).where() == "the recipe"


def test_a_source_has_the_place_where_it_is_first_named() -> None:
    recipe = read_recipe(LINEAR + "base_model: c\n")
    assert recipe.where_source("b") == "recipe line 3, column 3, models[1].model"
    assert recipe.where_source("c") == "recipe line 5, column 1, base_model"
    assert recipe.where_source("other") == "recipe line 1, column 1"


def test_all_problems_are_reported_at_once_in_the_order_of_the_text() -> None:
    with pytest.raises(Problems) as caught:
        read_recipe(
            "modls: 1\nmodels:\n- model: a\n  parameters: {weight: ~}\n- modle: b\nmerge_method: 3\ndtype: bf16\n"
        )
    lines = [str(problem.where).split(",")[0] for problem in caught.value.problems]
    assert lines == [f"recipe line {line}" for line in (1, 4, 5, 5, 6, 7)]


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(RecipeError, match="unknown key 'dype'") as caught:
        read_recipe(LINEAR + "dype: float32\n")
    assert caught.value.fix == "did you mean 'dtype'?"
    assert caught.value.where == "recipe line 5, column 1, dype"


def test_lenient_reading_lists_unknown_keys_and_passes_over_them() -> None:
    recipe = read_recipe("name: x\nmodels:\n- {model: a, weight: 1}\nmerge_method: linear\n", lenient=True)
    assert recipe == read_recipe("models:\n- model: a\nmerge_method: linear\n")
    assert [line.split(":")[0] for line in recipe.ignored] == [
        "unknown key 'name' (recipe line 1, column 1, name)",
        "unknown key 'weight' (recipe line 3, column 14, models[0].weight)",
    ]


def test_lenient_reading_still_refuses_everything_else() -> None:
    with pytest.raises(RecipeError, match="`dtype` cannot be 'bf16'"):
        read_recipe(LINEAR + "dtype: bf16\nother: 1\n", lenient=True)


def test_anchors_and_aliases_are_plain_copies() -> None:
    recipe = read_recipe(
        "models:\n- {model: a, parameters: &p {weight: 2}}\n- {model: b, parameters: *p}\nmerge_method: x\n"
    )
    assert recipe.models[1].parameters == {"weight": (Setting(2),)}


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + LINEAR.replace("\n", "\r\n").encode())
    assert read_recipe(path) == read_recipe(LINEAR)


def test_json_is_read_as_yaml() -> None:
    assert read_recipe(json.dumps(read_recipe(LINEAR).data(), indent=1)) == read_recipe(LINEAR)


def test_tuples_in_data_are_lists_and_the_file_is_remembered() -> None:
    recipe = recipe_from_data({"models": ({"model": "a"},), "merge_method": "linear"}, file="folder/math.yaml")
    assert recipe.file == "folder/math.yaml"
    assert recipe.models == (ModelEntry("a"),)


def test_reading_a_recipe_imports_nothing_heavy() -> None:
    script = (
        "import sys; from merging.recipe.text import read_recipe; from merging.recipe import settings, checks, source\n"
        f"read_recipe({LINEAR!r})\n"
        "print(sorted({'torch', 'numpy', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    clean = {name: value for name, value in os.environ.items() if name != "MERGING_CHECK_SHAPES"}
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=clean)
    assert found.stdout.strip() == "[]"
