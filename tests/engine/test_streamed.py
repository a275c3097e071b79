"""Bytes in the order of the file, whatever the order in which they are made."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.checkpoint.layout import lay_out
from merging.checkpoint.sink import ShardSink
from merging.checkpoint.tensors import TensorSpec
from merging.engine import streamed
from merging.engine.delivery import Sent
from merging.engine.journal import Journal
from merging.engine.streamed import StreamedShards
from tests.engine.shelf import Shelf

SPECS = [
    TensorSpec(name, shape, "F32") for name, shape in {"b": (7, 9), "a": (50,), "none": (0, 4), "c": (3, 3)}.items()
]
SPECS += [TensorSpec("ids", (11,), "I64"), TensorSpec("z", (120,), "BF16")]
TORCH = {"F32": torch.float32, "I64": torch.int64, "BF16": torch.bfloat16}


def entries(spec: TensorSpec) -> torch.Tensor:
    return (torch.arange(spec.length) * 3 + len(spec.name)).to(TORCH[spec.dtype])


@contextmanager
def sending(folder: Path, shelf: Shelf, shard_bytes: int, memory: int = 1 << 30) -> Iterator[StreamedShards]:
    """An outbox at work."""
    journal = Journal(folder / "journal.jsonl", {})
    journal.begin()
    outbox = StreamedShards(lay_out(SPECS, shard_bytes, {"format": "pt"}), shelf, journal, {}, memory)
    outbox.attach(Event(), lambda: None)
    yield outbox
    outbox.close()
    journal.close()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shard_bytes=st.sampled_from([1, 300, 1 << 20]))
def test_any_order_of_blocks_gives_the_bytes_of_a_file(
    seed: int, shard_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("streamed")
    choose = random.Random(seed)
    blocks = []
    for spec in SPECS:
        step = choose.randint(1, max(1, spec.length))
        blocks += [(spec.name, at, entries(spec)[at : at + step]) for at in range(0, spec.length, step)]
    choose.shuffle(blocks)
    shelf = Shelf(streams=True)
    with sending(folder, shelf, shard_bytes) as outbox:
        written = ShardSink(folder / "local", outbox.layout)
        for block in blocks:
            outbox.write(*block)
            written.write(*block)
        for spec in SPECS:
            outbox.recorded(spec.name)
        arrived = [event.path for event in outbox.finish()]
    files = {path.name: path.read_bytes() for path in written.seal() if path.suffix == ".safetensors"}
    assert sorted(arrived) == sorted(files)
    assert shelf.held == files


def test_a_tensor_far_ahead_of_the_line_may_not_begin_and_the_next_one_always_may(tmp_path: Path) -> None:
    with sending(tmp_path, Shelf(streams=True), 1 << 20, memory=0) as outbox:
        first, second, *_, last = outbox.layout.order
        assert outbox.admits(first) and not outbox.admits(last)
        outbox.write(first, 0, entries(outbox.layout.specs[first]))
        assert outbox.admits(second) and not outbox.admits(last)


def test_a_worker_waits_while_the_network_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "READY_BYTES", 500)
    taken, go_on = Event(), Event()

    class Slow(Shelf):
        def take(self, path: str, content: bytes) -> Sent:
            taken.set()
            assert go_on.wait(30)
            return super().take(path, content)

    ended: list[str] = []

    def work(outbox: StreamedShards) -> None:
        for name in outbox.layout.order:
            outbox.write(name, 0, entries(outbox.layout.specs[name]))
            outbox.recorded(name)
            ended.append(name)

    with sending(tmp_path, Slow(streams=True), 1) as outbox:
        worker = Thread(target=work, args=(outbox,))
        worker.start()
        assert taken.wait(30)
        worker.join(0.3)
        assert worker.is_alive() and len(ended) < len(SPECS)
        go_on.set()
        worker.join(30)
        assert len(list(outbox.finish())) == len(outbox.layout.files)


def test_who_is_too_far_ahead_of_the_line_waits_for_it(tmp_path: Path) -> None:
    shelf = Shelf(streams=True)
    with sending(tmp_path, shelf, 1 << 20) as outbox:
        outbox._ahead_bytes = 100
        order = outbox.layout.order
        last = Thread(target=outbox.write, args=(order[-1], 0, entries(outbox.layout.specs[order[-1]])), daemon=True)
        last.start()
        last.join(0.3)
        assert last.is_alive()
        for name in order[:-1]:
            outbox.write(name, 0, entries(outbox.layout.specs[name]))
        last.join(20)
        assert not last.is_alive()
