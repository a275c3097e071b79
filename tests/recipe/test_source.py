"""What a source names: files beside the recipe, in the current folder, with adapters; and everything it cannot name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from merging.errors import MergingError, Problems
from merging.hub.names import HubName
from merging.recipe.source import Source, find_source, open_source


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe's folder in it, both holding models; the outer one is the current folder."""
    for name in ("model", "recipes/model", "a+b", "a", "b", "c@main", "other/deep"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_path_is_looked_for_beside_the_recipe_first_then_in_the_current_folder(folder: Path) -> None:
    recipes = folder / "recipes"
    assert find_source("model", relative_to=recipes) == Source(recipes / "model")
    assert find_source("../model", relative_to=recipes) == Source(recipes / "../model")
    assert find_source("file.safetensors", relative_to=recipes) == Source(Path("file.safetensors"))
    assert find_source(str(folder / "a"), relative_to=recipes) == Source(folder / "a")


def test_a_plus_joins_a_base_and_an_adapter(folder: Path) -> None:
    assert find_source("model+b") == Source(Path("model"), Path("b"))
    assert find_source("model+b", relative_to=folder / "recipes") == Source(folder / "recipes" / "model", Path("b"))


def test_what_exists_on_disk_under_the_whole_text_is_taken_as_it_is(folder: Path) -> None:
    assert find_source("a+b") == Source(Path("a+b"))
    assert find_source("a+b+a") == Source(Path("a+b"), Path("a"))
    assert find_source("c@main") == Source(Path("c@main"))
    assert folder.is_dir()


def test_a_home_folder_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert find_source("~/a") == Source(folder / "a")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("modle", ["no file or folder modle", "nearest: model"]),
        ("other/deap", ["no file or folder other/deap", "nearest: other/deep"]),
        ("./org/name/x", ["no file or folder"]),
        ("other/deep@main", ["other/deep is a local folder or file, and those have no revisions"]),
        ("other/new", ["no file or folder other/new", "hf://other/new if it is on the Hub"]),
        ("hf://", ["names no repository on the Hub", "hf://owner/name"]),
        ("model@main", ["model is a local folder or file, and those have no revisions", "write 'model'"]),
        ("model@main@v1", ["names more than one revision"]),
        ("a+model+b", ["names more than one adapter"]),
        ("model+", ["empty name"]),
        ("", ["empty name"]),
        ("x" * 5000, ["no file or folder"]),
        ("nul\0byte", ["no file or folder"]),
        ("~nobody-here/x", ["no file or folder"]),
    ],
)
def test_what_cannot_be_opened_says_why(folder: Path, text: str, words: list[str]) -> None:
    with pytest.raises(MergingError) as caught:
        find_source(text, relative_to=folder / "recipes", where="math.yaml line 3")
    for piece in words:
        assert piece in str(caught.value)
    assert caught.value.where == "math.yaml line 3"


@pytest.mark.usefixtures("folder")
def test_what_is_no_path_here_is_a_repository_on_the_hub() -> None:
    assert find_source("meta-llama/Llama-3.1-8B") == Source(HubName("meta-llama/Llama-3.1-8B"))
    assert find_source("owner/name@v1.0") == Source(HubName("owner/name", "v1.0"))
    assert find_source("hf://other/deep") == Source(HubName("other/deep"))
    assert find_source("owner/name+owner/lora@main") == Source(HubName("owner/name"), HubName("owner/lora", "main"))
    assert find_source("model+owner/lora") == Source(Path("model"), HubName("owner/lora"))


def test_a_base_and_an_adapter_that_are_both_missing_are_reported_together(folder: Path) -> None:
    with pytest.raises(Problems) as caught:
        find_source("modle+bb", relative_to=folder)
    assert len(caught.value.problems) == 2


def test_a_source_is_opened_as_a_checkpoint_with_its_adapter_applied(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    a, b = torch.ones(1, 3), torch.full((2, 1), 2.0)
    for name in ("base", "adapter"):
        (tmp_path / name).mkdir()
    save_file({"layer.weight": weight}, tmp_path / "base" / "model.safetensors")
    factors = {"base_model.model.layer.lora_A.weight": a, "base_model.model.layer.lora_B.weight": b}
    save_file(factors, tmp_path / "adapter" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 3, "target_modules": ["layer"]}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    plain = open_source("base", relative_to=tmp_path)
    assert torch.equal(plain.read("layer.weight"), weight.flatten())
    adapted = open_source("base+adapter", relative_to=tmp_path)
    assert torch.equal(adapted.read("layer.weight"), (weight + 3 * b @ a).flatten())
