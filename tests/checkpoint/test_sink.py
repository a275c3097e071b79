"""Out of order, repeated, interrupted: the same bytes as the reference writer's."""

from __future__ import annotations

import errno
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from merging.checkpoint.headers import name_fault
from merging.checkpoint.layout import Layout, lay_out
from merging.checkpoint.shards import open_checkpoint
from merging.checkpoint.sink import MemorySink, NullSink, ShardSink, require_space, write_whole
from merging.checkpoint.tensors import DTYPES, TensorSpec, dtype_name
from merging.errors import OutputError
from tests.checkpoint.kinds import every_dtype, random_bits

METADATA = {"format": "pt"}
DTYPE_NAMES = sorted(name for name, facts in DTYPES.items() if facts.torch_name)


def specs(tensors: dict[str, torch.Tensor]) -> list[TensorSpec]:
    return [TensorSpec(name, tuple(x.shape), dtype_name(x.dtype)) for name, x in tensors.items()]


def blocks(tensors: dict[str, torch.Tensor], seed: int, repeated: bool = True) -> list[tuple[str, int, torch.Tensor]]:
    """All tensors cut into blocks, shuffled, some of them twice."""
    choose = random.Random(seed)
    cut = []
    for name, x in tensors.items():
        step = choose.randint(1, max(1, x.numel()))
        cut += [(name, at, x.reshape(-1)[at : at + step]) for at in range(0, x.numel(), step)]
    cut += choose.sample(cut, len(cut) // 3) if repeated else []
    choose.shuffle(cut)
    return cut


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def written(folder: Path, tensors: dict[str, torch.Tensor], shard_bytes: int = 1 << 40) -> Layout:
    layout = lay_out(specs(tensors), shard_bytes, METADATA)
    sink = ShardSink(folder, layout)
    for block in blocks(tensors, 0):
        sink.write(*block)
    sink.seal()
    return layout


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: not name_fault(name)),
        st.tuples(st.lists(st.integers(0, 5), max_size=3).map(tuple), st.sampled_from(DTYPE_NAMES)),
        max_size=6,
    ),
    st.integers(0, 1000),
)
def test_a_sealed_file_is_the_reference_writers_file(
    tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, tuple[tuple[int, ...], str]], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("sealed")
    tensors = {
        name: random_bits(shape, getattr(torch, str(DTYPES[dtype].torch_name)), seed)
        for name, (shape, dtype) in shapes.items()
    }
    save_file(tensors, folder / "reference", metadata=METADATA)
    sink = ShardSink(folder / "ours", lay_out(specs(tensors), 1 << 40, METADATA))
    for block in blocks(tensors, seed):
        sink.write(*block)
    (path,) = sink.seal()
    assert path.read_bytes() == (folder / "reference").read_bytes()


def test_each_of_many_files_is_the_reference_writers_file(tmp_path: Path) -> None:
    tensors = every_dtype()
    layout = written(tmp_path / "ours", tensors, shard_bytes=100)
    assert len(layout.files) > 3
    for file in layout.files:
        save_file({name: tensors[name] for name in file.tensors}, tmp_path / "reference", metadata=METADATA)
        assert (tmp_path / "ours" / file.name).read_bytes() == (tmp_path / "reference").read_bytes()
    assert sorted(files(tmp_path / "ours")) == sorted(
        [*(file.name for file in layout.files), "model.safetensors.index.json"]
    )


def test_blocks_from_many_threads_give_the_same_bytes(tmp_path: Path) -> None:
    tensors = every_dtype()
    written(tmp_path / "one", tensors, 100)
    sink = ShardSink(tmp_path / "many", lay_out(specs(tensors), 100, METADATA))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda block: (sink.write(*block), sink.settle(block[0])), blocks(tensors, 3)))
    sink.seal()
    assert files(tmp_path / "one") == files(tmp_path / "many")


@pytest.mark.parametrize("stop", range(0, 60, 7))
def test_an_interrupted_sink_goes_on_where_it_was(stop: int, tmp_path: Path) -> None:
    tensors = every_dtype()
    layout = written(tmp_path / "whole", tensors, 100)
    order = blocks(tensors, stop, repeated=False)
    first = ShardSink(tmp_path / "resumed", layout)
    for done in order[:stop]:
        first.write(*done)
    del first
    second = ShardSink(tmp_path / "resumed", layout)
    for name, at, block in order[:stop]:
        assert torch.equal(second.read_back(name, at, at + len(block)).view(torch.uint8), block.view(torch.uint8))
    for rest in order[stop:]:
        second.write(*rest)
    second.seal()
    assert files(tmp_path / "whole") == files(tmp_path / "resumed")


@pytest.mark.parametrize("renamed", range(5))
def test_a_seal_that_was_interrupted_can_be_done_again(renamed: int, tmp_path: Path) -> None:
    tensors = {f"x{i}": torch.full((30,), float(i)) for i in range(4)}
    layout = written(tmp_path / "whole", tensors, 120)
    sink = ShardSink(tmp_path / "cut", layout)
    for block in blocks(tensors, 1):
        sink.write(*block)
    del sink
    for file in layout.files[:renamed]:
        (tmp_path / "cut" / f"{file.name}.partial").rename(tmp_path / "cut" / file.name)
    again = ShardSink(tmp_path / "cut", layout)
    assert all(torch.equal(again.read_back(name), x) for name, x in tensors.items())
    again.seal()
    assert files(tmp_path / "whole") == files(tmp_path / "cut")


def test_sealing_twice_is_harmless(tmp_path: Path) -> None:
    tensors = every_dtype()
    sink = ShardSink(tmp_path, lay_out(specs(tensors), 100, METADATA))
    for block in blocks(tensors, 0):
        sink.write(*block)
    paths = sink.seal()
    before = files(tmp_path)
    assert sink.seal() == paths
    assert files(tmp_path) == before
    assert all(path.is_file() for path in paths)


@pytest.mark.parametrize("spoil", ["header", "size"])
def test_a_partial_file_of_another_output_is_begun_afresh(spoil: str, tmp_path: Path) -> None:
    tensors = {"a": torch.ones(100)}
    layout = lay_out(specs(tensors), 1 << 40, METADATA)
    ShardSink(tmp_path, layout).write("a", 0, tensors["a"])
    partial = tmp_path / "model.safetensors.partial"
    with partial.open("r+b") as file:
        file.write(b"\xff") if spoil == "header" else file.truncate(partial.stat().st_size + 1)
    assert not ShardSink(tmp_path, layout).read_back("a").any()


def test_without_resume_an_earlier_output_stays_until_the_new_one_is_sealed(tmp_path: Path) -> None:
    layout = written(tmp_path, {"a": torch.ones(9)})
    before = (tmp_path / "model.safetensors").read_bytes()
    sink = ShardSink(tmp_path, layout, resume=False)
    sink.write("a", 0, torch.zeros(9))
    assert (tmp_path / "model.safetensors").read_bytes() == before
    sink.seal()
    assert not open_checkpoint(tmp_path).read("a").any()


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.partial", "model.safetensors.index.json"])
def test_a_link_in_the_way_is_refused_and_its_target_untouched(name: str, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / name).symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="is a link or no file"):
        ShardSink(out, lay_out([TensorSpec("a", (1,), "F32")], 100))
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_full_disk_names_the_bytes_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = ShardSink(tmp_path, lay_out([TensorSpec("a", (1000,), "F32")], 1 << 40))
    real = os.pwrite
    room = [1500]

    def pwrite(number: int, content: Any, at: int) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = real(number, content[: room[0]], at)
        room[0] -= done
        return done

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OutputError, match="no space left on the disk: 2,500 bytes of tensor 'a'"):
        sink.write("a", 0, torch.ones(1000))
    monkeypatch.undo()
    sink.write("a", 0, torch.ones(1000))
    assert sink.read_back("a").all()


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = ShardSink(tmp_path, lay_out([TensorSpec("a", (1000,), "F32")], 1 << 40))
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda number, content, at: real(number, content[:7], at))
    sink.write("a", 0, torch.arange(1000.0))
    assert torch.equal(sink.read_back("a"), torch.arange(1000.0))


@pytest.mark.parametrize(
    ("start", "block"),
    [
        (0, torch.zeros(11)),
        (-1, torch.zeros(2)),
        (9, torch.zeros(2)),
        (0, torch.zeros(2).double()),
        (0, torch.zeros(2, 2)),
    ],
)
def test_a_block_that_does_not_belong_there_is_not_written(start: int, block: torch.Tensor, tmp_path: Path) -> None:
    specs = [TensorSpec("a", (10,), "F32")]
    for sink in (ShardSink(tmp_path, lay_out(specs, 1 << 40)), MemorySink(specs)):
        with pytest.raises(ValueError, match="10 entries of F32, cannot take"):
            sink.write("a", start, block)


def test_nothing_is_written_after_the_seal(tmp_path: Path) -> None:
    sink = ShardSink(tmp_path, lay_out([TensorSpec("a", (10,), "F32")], 1 << 40))
    sink.seal()
    with pytest.raises(ValueError, match="is sealed"):
        sink.write("a", 0, torch.ones(10))
    assert not sink.read_back("a").any()


def test_a_strided_block_is_written_in_its_order(tmp_path: Path) -> None:
    sink = ShardSink(tmp_path, lay_out([TensorSpec("a", (5,), "F32")], 1 << 40))
    sink.write("a", 0, torch.arange(10.0)[::2])
    assert sink.read_back("a").tolist() == [0, 2, 4, 6, 8]


def test_entries_of_less_than_a_byte_are_written_as_bytes(tmp_path: Path) -> None:
    for sink in (
        ShardSink(tmp_path, lay_out([TensorSpec("a", (8,), "F4")], 99)),
        MemorySink([TensorSpec("a", (8,), "F4")]),
    ):
        sink.write("a", 2, torch.tensor([3, 4], dtype=torch.uint8))
        sink.seal()
        assert sink.read_back("a").tolist() == [0, 0, 3, 4]


def test_a_file_cut_before_the_seal_is_not_sealed(tmp_path: Path) -> None:
    sink = ShardSink(tmp_path, lay_out([TensorSpec("a", (8,), "F32")], 99))
    os.truncate(tmp_path / "model.safetensors.partial", 20)
    with pytest.raises(OutputError, match="instead of"):
        sink.seal()
    assert not (tmp_path / "model.safetensors").exists()


def test_a_memory_sink_gives_back_tensors_in_their_shapes() -> None:
    tensors = every_dtype()
    sink = MemorySink(specs(tensors))
    for block in blocks(tensors, 5):
        sink.write(*block)
    assert sink.seal() == []
    held = sink.tensors()
    assert all(held[name].shape == x.shape and held[name].dtype == x.dtype for name, x in tensors.items())
    assert all(
        torch.equal(held[name].reshape(-1).view(torch.uint8), x.reshape(-1).view(torch.uint8))
        for name, x in tensors.items()
        if x.numel()
    )


def test_a_null_sink_takes_everything() -> None:
    sink = NullSink()
    sink.write("a", 0, torch.ones(1))
    assert sink.seal() == []


def test_space_is_asked_for_where_the_folder_will_be(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(OutputError, match="the output needs 1,152,921,504,606,846,976 bytes"):
        require_space(tmp_path / "not" / "yet", 1 << 60)


def test_a_small_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "x", b"long content")
    write_whole(tmp_path / "x", b"short")
    assert files(tmp_path) == {"x": b"short"}
    (tmp_path / "link").symlink_to(tmp_path / "x")
    with pytest.raises(OutputError, match="is a link"):
        write_whole(tmp_path / "link", b"y")


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        ShardSink(tmp_path / "file" / "out", lay_out([], 1))
