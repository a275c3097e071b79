"""Our forward pass of the vision transformer, against transformers' where it is installed."""

from __future__ import annotations

import warnings

import pytest
import torch

from merging.checkpoint.shards import open_checkpoint
from merging.demo.vit import classify, initial, weights
from merging.demo.zoo import find_zoo

ZOO = find_zoo()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folder", [ZOO.base, *ZOO.twins.values()], ids=lambda folder: folder.name)
def test_logits_are_those_of_transformers(folder: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip(
            "transformers", reason="NOT COMPARED WITH transformers: install the test extra, pip install -e '.[test]'"
        )
    model, loading = transformers.ViTForImageClassification.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(loading[finding] for finding in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    images = ZOO.digits("validation")["plain"].images[:50]
    checkpoint = open_checkpoint(str(folder))
    with torch.inference_mode():
        theirs = model.eval()(images[:, None]).logits
        ours = classify(weights(checkpoint), checkpoint.config, images)
    assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)


def test_one_image_alone_gets_the_logits_it_gets_among_others() -> None:
    checkpoint = open_checkpoint(ZOO.base)
    tensors, images = weights(checkpoint), ZOO.digits("validation")["plain"].images[:8]
    together = classify(tensors, checkpoint.config, images)
    alone = torch.cat([classify(tensors, checkpoint.config, image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_fresh_transformer_has_the_tensors_of_the_stored_one() -> None:
    checkpoint = open_checkpoint(ZOO.base)
    fresh = initial(checkpoint.config, seed=0)
    assert {name: tuple(tensor.shape) for name, tensor in fresh.items()} == {
        name: spec.shape for name, spec in checkpoint.specs.items()
    }
