"""One more model into a finished merge: the same as merging all at once, and refused where that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from merging.engine.continuing import continued_recipe
from merging.engine.merge import merge
from merging.errors import CheckpointError, RecipeError, VerificationError
from merging.methods.declare import all_methods

SHAPES = {"layers.0.w": (24, 16), "layers.1.w": (16, 16), "layers.1.b": (16,), "embed_tokens": (20, 8)}
CONTINUING = [name for name, method in all_methods().items() if method.needs.continued]


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """A base model and four fine-tunes on disk, float32."""
    generator = torch.Generator().manual_seed(0)
    base = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    for place in ("base", "a", "b", "c", "d"):
        tuned = {
            name: x + 0.1 * torch.randn(x.shape, generator=generator) * (place != "base") for name, x in base.items()
        }
        (tmp_path / place).mkdir()
        save_file(tuned, tmp_path / place / "model.safetensors", {"format": "pt"})
    return tmp_path


def recipe(folder: Path, method: str, *models: str) -> Path:
    listed = "".join(f"  - model: {name}\n" for name in models)
    base = "base_model: base\n" if all_methods()[method].needs.base == "required" else ""
    path = folder / f"{method}-{len(models)}.yaml"
    path.write_text(f"merge_method: {method}\n{base}models:\n{listed}")
    return path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("method", CONTINUING)
def test_models_added_one_by_one_give_what_all_at_once_give(method: str, family: Path) -> None:
    merge(recipe(family, method, "a", "b", "c", "d"), family / "all")
    merge(recipe(family, method, "a", "b"), family / "two")
    merge(continued_recipe(family / "two", str(family / "c")), family / "three")
    for gone in ("a", "b", "c"):
        (family / gone / "model.safetensors").unlink()
    merge(continued_recipe(family / "three", str(family / "d")), family / "four")
    found, expected = weights(family / "four"), weights(family / "all")
    for name in SHAPES:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)


def test_a_method_that_cannot_go_on_is_refused_with_those_that_can(family: Path) -> None:
    merge(recipe(family, "ties", "a", "b"), family / "out")
    with pytest.raises(RecipeError, match=r"(?s)ties cannot add a model to its own result.*opcm"):
        continued_recipe(family / "out", str(family / "c"))


def test_another_base_model_is_refused(family: Path) -> None:
    merge(recipe(family, "opcm", "a", "b"), family / "out")
    save_file({name: torch.ones(shape) for name, shape in SHAPES.items()}, family / "base" / "model.safetensors")
    with pytest.raises(CheckpointError, match="is not the one that"):
        continued_recipe(family / "out", str(family / "c"))


def test_values_that_differ_between_tensors_are_refused(family: Path) -> None:
    path = recipe(family, "moving_average", "a", "b")
    path.write_text(path.read_text().replace("  - model: a\n", "  - model: a\n    parameters: {weight: [0.1, 0.2]}\n"))
    merge(path, family / "out")
    with pytest.raises(RecipeError, match="had other parameters for"):
        continued_recipe(family / "out", str(family / "c"))


def test_a_folder_without_a_record_is_refused(family: Path) -> None:
    with pytest.raises(VerificationError, match="has no record"):
        continued_recipe(family / "a", str(family / "c"))


def test_the_new_merge_is_recorded_like_any_other(family: Path) -> None:
    merge(recipe(family, "opcm", "a", "b"), family / "out")
    merge(continued_recipe(family / "out", str(family / "c")), family / "more")
    record = json.loads((family / "more" / "merging.json").read_text())
    assert [model["model"] for model in record["recipe"]["models"]] == [str(family / "out"), str(family / "c")]
    assert record["recipe"]["parameters"]["earlier"] == 2
