"""Files, folders, indices and links; and files that change under the reader."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from merging.checkpoint import bytes as byte_sources
from merging.checkpoint.bytes import WHOLE_BYTES, LocalBytes
from merging.checkpoint.shards import ShardCheckpoint, open_checkpoint
from merging.errors import CheckpointError, Problems

PAIR = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(4, dtype=torch.int64)}


def write(path: Path, **tensors: torch.Tensor) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors or PAIR, path)
    return path


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def opened(path: Path) -> ShardCheckpoint:
    checkpoint = open_checkpoint(path)
    assert isinstance(checkpoint, ShardCheckpoint)
    return checkpoint


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
        "x.safetensors",
    ],
)
def test_a_folder_with_one_file_is_a_checkpoint(name: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    checkpoint = open_checkpoint(tmp_path)
    assert set(checkpoint.specs) == {"a", "b"}
    assert checkpoint.config == {"model_type": "llama"}


def test_the_plain_file_is_taken_before_variants_and_files_of_other_tools(tmp_path: Path) -> None:
    write(tmp_path / "diffusion_pytorch_model.safetensors")
    write(tmp_path / "diffusion_pytorch_model.fp16.safetensors", c=torch.ones(1))
    write(tmp_path / "consolidated.safetensors", c=torch.ones(1))
    (tmp_path / "training_args.bin").write_bytes(b"")
    assert set(open_checkpoint(tmp_path).specs) == {"a", "b"}


def test_a_complete_numbered_set_needs_no_index(tmp_path: Path) -> None:
    write(tmp_path / "model-00001-of-00002.safetensors", a=PAIR["a"])
    write(tmp_path / "model-00002-of-00002.safetensors", b=PAIR["b"])
    assert list(open_checkpoint(tmp_path).specs) == ["a", "b"]


def test_an_index_is_opened_by_its_folder_or_its_name(tmp_path: Path) -> None:
    write(tmp_path / "1.safetensors", a=PAIR["a"])
    write(tmp_path / "2.safetensors", b=PAIR["b"])
    write(tmp_path / "unrelated.safetensors", a=PAIR["b"])
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"b": "2.safetensors", "a": "1.safetensors"}}))
    for path in (tmp_path, index):
        assert torch.equal(open_checkpoint(path).read("b"), PAIR["b"])


def test_a_path_that_does_not_exist_names_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="there is no file") as caught:
        open_checkpoint(tmp_path / "modell.safetensors")
    assert "model.safetensors?" in str(caught.value)


def test_a_tensor_that_does_not_exist_names_its_neighbour(tmp_path: Path) -> None:
    checkpoint = opened(write(tmp_path / "m.safetensors", weights=torch.ones(2)))
    with pytest.raises(CheckpointError, match="no tensor 'weight'") as caught:
        checkpoint.read("weight")
    assert "nearest: weights" in str(caught.value)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 7), (4, 3), (7, 7)])
def test_a_range_outside_the_tensor_reads_no_other_tensor(start: int, stop: int, tmp_path: Path) -> None:
    checkpoint = opened(write(tmp_path / "m.safetensors"))
    with pytest.raises(IndexError, match="'a' has 6 entries"):
        checkpoint.read("a", start, stop)


def test_entries_of_less_than_a_byte_are_read_as_bytes(tmp_path: Path) -> None:
    header = {"codes": {"dtype": "F4", "shape": [2, 4], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes([1, 2, 3, 4]))
    checkpoint = open_checkpoint(tmp_path / "m.safetensors")
    assert checkpoint.specs["codes"].length == 4
    assert checkpoint.read("codes").tolist() == [1, 2, 3, 4]
    assert checkpoint.read("codes", 1, 3).tolist() == [2, 3]
    assert checkpoint.read("codes").dtype == torch.uint8


def test_a_read_is_fresh_memory(tmp_path: Path) -> None:
    checkpoint = opened(write(tmp_path / "m.safetensors"))
    checkpoint.read("a").zero_()
    assert torch.equal(checkpoint.read("a"), PAIR["a"].reshape(-1))


def test_a_file_cut_while_it_is_read_gives_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors")
    checkpoint = opened(path)
    checkpoint.read("a")
    os.truncate(path, path.stat().st_size - 4)
    with pytest.raises(CheckpointError, match="ended at byte"):
        for name in checkpoint.specs:
            checkpoint.read(name)


def test_a_file_replaced_since_its_header_was_read_gives_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors")
    checkpoint = opened(path)
    checkpoint.close()
    path.unlink()
    write(tmp_path / "other.safetensors", c=torch.zeros(99))
    (tmp_path / "other.safetensors").rename(path)
    with pytest.raises(CheckpointError, match="has been replaced"):
        checkpoint.read("a")


def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="is not a file"):
        open_checkpoint(tmp_path)


def test_a_closed_checkpoint_opens_its_files_again(tmp_path: Path) -> None:
    checkpoint = opened(write(tmp_path / "m.safetensors"))
    checkpoint.close()
    assert torch.equal(checkpoint.read("b"), PAIR["b"])


def test_open_files_are_bounded_and_closed_with_their_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byte_sources, "OPEN_LIMIT", 3)
    paths = [write(tmp_path / f"{i}.safetensors", a=torch.full((2,), float(i))) for i in range(12)]
    gc.collect()
    before = open_files()
    checkpoints = [opened(path) for path in paths]
    assert open_files() <= before + 3
    assert [int(checkpoint.read("a")[0]) for checkpoint in checkpoints] == list(range(12))
    assert open_files() <= before + 3
    del checkpoints
    gc.collect()
    assert open_files() <= before


def test_advice_may_be_given_for_any_range(tmp_path: Path) -> None:
    checkpoint = opened(write(tmp_path / "m.safetensors"))
    for start, stop in ((0, None), (2, 4), (5, 1000), (6, 6)):
        checkpoint.advise("a", start, stop)


def test_fine_tunes_of_equal_headers_have_different_fingerprints(tmp_path: Path) -> None:
    large = torch.zeros(WHOLE_BYTES // 4)
    base = {"a": large, "b": large.clone(), "c": torch.zeros(100)}
    fingerprints = set()
    for changed in ("none", "a", "b", "c"):
        tensors = {name: x + (0.01 if name == changed else 0) for name, x in base.items()}
        path = write(tmp_path / f"{changed}.safetensors", **tensors)
        fingerprints.add(open_checkpoint(path).fingerprint)
    assert len(fingerprints) == 4


def test_a_fingerprint_does_not_depend_on_name_or_time(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.safetensors"), write(tmp_path / "two.safetensors")
    os.utime(two, (0, 0))
    assert open_checkpoint(one).fingerprint == open_checkpoint(two).fingerprint


def test_a_change_of_the_first_and_of_the_last_byte_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x"
    fingerprints = set()
    for changed in (None, 0, -1):
        content = bytearray(WHOLE_BYTES + 12345)
        if changed is not None:
            content[changed] = 1
        path.write_bytes(content)
        fingerprints.add(byte_sources.sampled_digest(LocalBytes(path), 0))
    assert len(fingerprints) == 3


def test_problems_of_all_shards_are_told_together(tmp_path: Path) -> None:
    for i in (1, 2, 3):
        (tmp_path / f"model-0000{i}-of-00003.safetensors").write_bytes(b"x" * i)
    with pytest.raises(Problems) as caught:
        open_checkpoint(tmp_path)
    assert len(caught.value.problems) == 3


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "weights")
    (tmp_path / "model.safetensors").symlink_to("deep/weights")
    assert set(open_checkpoint(tmp_path).specs) == {"a", "b"}


def test_a_snapshot_may_not_lead_into_another_repository(tmp_path: Path) -> None:
    write(tmp_path / "models--x--private" / "blobs" / "1")
    snapshot = tmp_path / "models--a--b" / "snapshots" / "1"
    (tmp_path / "models--a--b" / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to("../../../models--x--private/blobs/1")
    with pytest.raises(CheckpointError, match="leads out of its folder"):
        open_checkpoint(snapshot)
