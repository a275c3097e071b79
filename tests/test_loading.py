"""transformers loads what we merged, finds every tensor it wants and none it does not, and runs it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import merging
from tests import tiny

with warnings.catch_warnings():
    # Warnings of other libraries' imports are not ours to fix.
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip(
        "transformers", reason="NOT LOADED BY transformers: install the test extra, pip install -e '.[test]'"
    )


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process alone: children of other tests talk to a Hub of their own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


MODELS = {
    "llama": "LlamaForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "bert": "BertForMaskedLM",
    "t5": "T5ForConditionalGeneration",
    "vit": "ViTForImageClassification",
}
RECIPE = """
merge_method: ties
base_model: {0}
models:
  - {{model: {1}, parameters: {{weight: 1.0, density: 0.4}}}}
  - {{model: {2}, parameters: {{weight: 0.5, density: 0.6}}}}
"""
STACK = """
merge_method: passthrough
slices:
  - sources: [{{model: {1}, layer_range: [0, 2]}}]
  - sources: [{{model: {2}, layer_range: [0, 2]}}]
"""


@pytest.fixture(autouse=True)
def _their_warnings() -> Iterator[None]:
    """transformers warns of its own deprecations; they say nothing about our files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load(kind: str, folder: Path) -> Any:
    """The model, after asserting that names and shapes in the files are exactly what it wants."""
    model, loading = getattr(transformers, MODELS[kind]).from_pretrained(folder, output_loading_info=True)
    for finding in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not loading[finding], (finding, loading[finding])
    return model.eval()


def logits(kind: str, model: Any) -> torch.Tensor:
    """Outputs of a forward pass on fixed inputs."""
    tokens = torch.arange(10).reshape(2, 5)
    inputs = {"vit": {"pixel_values": tiny.normal((2, 3, 16, 16), "pixels", 0).to(model.dtype)}}.get(
        kind, {"input_ids": tokens}
    )
    if kind == "t5":
        inputs["decoder_input_ids"] = tokens
    with torch.no_grad():
        return model(**inputs).logits.float()  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_merged_model_loads_and_runs(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    family = tiny.family(tmp_path, kind, models=2, dtype=dtype)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(family.base, *family.tuned))
    merging.merge(tmp_path / "recipe.yaml", tmp_path / "out")
    model = load(kind, tmp_path / "out")
    assert model.dtype == dtype
    merged, base = logits(kind, model), logits(kind, load(kind, family.base))
    assert merged.isfinite().all()
    assert merged.shape == base.shape and not torch.equal(merged, base)


def test_sharded_output_loads_through_its_index(tmp_path: Path) -> None:
    family = tiny.family(tmp_path, models=2, shards=3)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(family.base, *family.tuned))
    merging.merge(tmp_path / "recipe.yaml", tmp_path / "out", shard_bytes=100_000)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    assert logits("llama", load("llama", tmp_path / "out")).isfinite().all()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "vit"])
def test_stacked_layers_load_as_a_deeper_model(tmp_path: Path, kind: str) -> None:
    family = tiny.family(tmp_path, kind, models=2)
    (tmp_path / "recipe.yaml").write_text(STACK.format(family.base, *family.tuned))
    merging.merge(tmp_path / "recipe.yaml", tmp_path / "out")
    model = load(kind, tmp_path / "out")
    assert model.config.num_hidden_layers == 4
    assert logits(kind, model).isfinite().all()


def test_a_tied_head_stays_tied(tmp_path: Path) -> None:
    family = tiny.family(tmp_path, models=2, tied=True)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(family.base, *family.tuned))
    merging.merge(tmp_path / "recipe.yaml", tmp_path / "out")
    model = load("llama", tmp_path / "out")
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
