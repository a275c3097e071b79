"""The generated families are what they say: valid files, structured task vectors, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import generate


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setitem(generate.SIZES, "0.0B", generate.Size(2, 64, 112, 4, 2, 97))
    monkeypatch.setattr(generate, "SHARD_BYTES", 60_000)
    monkeypatch.setattr(generate, "BLOCK_ENTRIES", 1 << 10)
    monkeypatch.setattr(generate, "POOL_ENTRIES", 1 << 14)
    return generate.generate(tmp_path, "0.0B", 2)


def weights(place: Path) -> dict[str, torch.Tensor]:
    return {name: x for file in sorted(place.glob("*.safetensors")) for name, x in load_file(file).items()}


def test_a_generated_model_has_every_tensor_in_its_shape(places: list[Path]) -> None:
    assert len(list(places[0].glob("*.safetensors"))) > 1
    assert {name: tuple(x.shape) for name, x in weights(places[0]).items()} == generate.SIZES["0.0B"].shapes()


def test_fine_tunes_lie_near_the_base_model_and_apart_from_each_other(places: list[Path]) -> None:
    base, first, second = (weights(place)["lm_head.weight"].float().flatten() for place in places)
    assert (first - base).norm() / base.norm() == pytest.approx(0.03, rel=0.2)
    assert abs(torch.cosine_similarity(first - base, second - base, dim=0)) < 0.2


def test_a_model_that_is_there_is_not_made_again(places: list[Path]) -> None:
    file = next(places[1].glob("*.safetensors"))
    before = file.stat().st_mtime_ns
    generate.generate(places[0].parents[1], "0.0B", 2)
    assert file.stat().st_mtime_ns == before
