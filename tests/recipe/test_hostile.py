"""Every malformed recipe in data/hostile/recipes is refused with the words that its `# expected:` lines promise.

Files that cannot hold a comment have their expected words in a sidecar, one per line.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from merging.errors import MergingError, RecipeError
from merging.recipe.text import LARGEST_BYTES, read_recipe

FOLDER = Path(__file__).parents[2] / "data" / "hostile" / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def expected(path: Path) -> list[str]:
    sidecar = path.with_suffix(".expected")
    if sidecar.exists():
        return sidecar.read_text().splitlines()
    lines = path.read_text().splitlines()
    return [line.removeprefix("# expected: ") for line in lines if line.startswith("# expected: ")]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_hostile_recipe_is_refused_with_the_expected_words(path: Path) -> None:
    words = expected(path)
    assert words
    with pytest.raises(MergingError) as caught:
        read_recipe(path)
    for piece in words:
        assert piece in str(caught.value)
    assert path.name in str(caught.value)


def test_a_recipe_of_more_than_the_allowed_size_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (LARGEST_BYTES + 1))
    with pytest.raises(RecipeError, match="the recipe is too large"):
        read_recipe(path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without an end")
def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(RecipeError, match="the recipe is too large"):
        read_recipe("/dev/zero")


def test_more_values_than_allowed_are_refused() -> None:
    with pytest.raises(RecipeError, match="too many values"):
        read_recipe("merge_method: linear\nparameters:\n  weight: [" + "1," * 100_001 + "]\n")


def test_a_recipe_that_is_not_there_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "maths.yaml").write_text("")
    with pytest.raises(RecipeError, match="no such recipe file") as caught:
        read_recipe(tmp_path / "math.yaml")
    assert "maths.yaml" in str(caught.value)


def test_a_folder_is_not_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a folder is not a recipe"):
        read_recipe(tmp_path)


def test_an_impossible_path_is_refused() -> None:
    for path in ("a\0b", "a" * 5000):
        with pytest.raises(RecipeError, match="cannot be read"):
            read_recipe(path)
