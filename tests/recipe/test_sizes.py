"""Sizes in bytes as people write them."""

from __future__ import annotations

import click
import pytest

from merging.cli.text import size
from merging.errors import RecipeError
from merging.jobs.options import checked_options
from merging.recipe.sizes import read_size

SIZES = {"1000000": 10**6, "512MiB": 1 << 29, "4 gib": 1 << 32, "1.5k": 1500, "2TB": 2 * 10**12, "7b": 7}


@pytest.mark.parametrize(("text", "nbytes"), SIZES.items())
def test_a_size_is_the_same_on_the_command_line_and_for_a_job(text: str, nbytes: int) -> None:
    assert read_size(text) == size(text) == checked_options(["--memory", text])["memory"] == nbytes


@pytest.mark.parametrize("text", ["", "ib", "4iB", "-1", "0", "0.2", "1e9", "4 XB", "GiB"])
def test_what_is_no_size_is_refused_in_all_places(text: str) -> None:
    with pytest.raises(RecipeError):
        read_size(text)
    with pytest.raises(click.BadParameter):
        size(text)
    with pytest.raises(RecipeError, match="--memory cannot be"):
        checked_options(["--memory", text])
