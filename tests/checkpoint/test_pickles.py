"""Pickles: opt-in, tensors only, and never loaded unsafely."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from merging.checkpoint.shards import open_checkpoint
from merging.errors import CheckpointError, MergingError

PAIR = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(4)}


class Poison:
    """Runs code when it is unpickled."""

    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


def test_a_pickle_is_refused_unless_asked_for(tmp_path: Path) -> None:
    torch.save(PAIR, tmp_path / "pytorch_model.bin")
    for path in (tmp_path, tmp_path / "pytorch_model.bin"):
        with pytest.raises(CheckpointError, match="is a pickle, which can carry code"):
            open_checkpoint(path)
        assert torch.equal(open_checkpoint(path, allow_pickle=True).read("b"), PAIR["b"])


def test_safetensors_beside_pickles_are_taken(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.save({"old": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    save_file(PAIR, tmp_path / "model.safetensors")
    assert set(open_checkpoint(tmp_path, allow_pickle=True).specs) == {"a", "b"}


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(zipped: bool, tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "model.pt"
    content = {"a": torch.ones(1), "b": Poison(victim)}
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content["b"]))
    with pytest.raises(CheckpointError, match="torch will not read this pickle"):
        open_checkpoint(path, allow_pickle=True)
    assert not victim.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really a zip", b"\x80\x02}q\x00."])
def test_a_broken_pickle_is_an_error_of_ours(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "model.pt", allow_pickle=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.ones(1)], "the pickle holds a list"),
        ({"a": torch.ones(1), "epoch": 3}, "'epoch' is not a dense tensor"),
        ({"a": torch.ones(1).to_sparse()}, "'a' is not a dense tensor"),
        ({3: torch.ones(1)}, "3 is not a dense tensor"),
        ({"a\n": torch.ones(1)}, "contains a control character"),
    ],
)
def test_what_is_not_a_dictionary_of_tensors_is_refused(content: object, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(MergingError, match=words):
        open_checkpoint(tmp_path / "model.pt", allow_pickle=True)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_weights_are_found_beside_the_state_of_training(key: str, tmp_path: Path) -> None:
    torch.save({key: PAIR, "epoch": 3}, tmp_path / "last.ckpt")
    assert set(open_checkpoint(tmp_path / "last.ckpt", allow_pickle=True).specs) == {"a", "b"}


def write_index(folder: Path, weight_map: Mapping[str, str]) -> None:
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_an_index_of_pickles_is_followed_and_checked(tmp_path: Path) -> None:
    torch.save({"a": PAIR["a"]}, tmp_path / "1.bin")
    torch.save({"b": PAIR["b"]}, tmp_path / "2.bin")
    write_index(tmp_path, {"a": "1.bin", "b": "2.bin"})
    checkpoint = open_checkpoint(tmp_path, allow_pickle=True)
    assert torch.equal(checkpoint.read("a", 1, 3), PAIR["a"].reshape(-1)[1:3])
    write_index(tmp_path, {"a": "1.bin", "c": "2.bin"})
    with pytest.raises(MergingError, match="'c', which no file holds"):
        open_checkpoint(tmp_path, allow_pickle=True)


def test_tied_tensors_are_read_under_both_names(tmp_path: Path) -> None:
    shared = torch.randn(4, 2)
    torch.save({"embed": shared, "head": shared}, tmp_path / "model.pt")
    checkpoint = open_checkpoint(tmp_path / "model.pt", allow_pickle=True)
    assert torch.equal(checkpoint.read("embed"), checkpoint.read("head"))
