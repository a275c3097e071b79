"""Weights that leave while they are made: the same bytes, little on disk, nothing shown before everything is right."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.engine import streamed
from merging.engine.events import Delivered, Delivering, Event, Sealed, TensorDone, Warned
from merging.engine.run import run
from merging.errors import HubError, MergingError, OutputError
from merging.planning.plan import Plan
from tests.engine import plans
from tests.engine.kill_points import contents
from tests.engine.plans import models, plan_of
from tests.engine.shelf import Shelf

SHAPES = {f"layers.{i}.w": (30, 40) for i in range(11)} | {"embed": (90, 40), "norm": (40,), "empty": (0, 3)}


@pytest.fixture(autouse=True)
def _methods() -> Iterator[None]:
    with plans.temporary_methods():
        plans.declare_test_methods()
        yield


def plan_in_shards(method: str = "ties", shard_bytes: int = 3000, **values: object) -> Plan:
    """A merge into several files, of tensors that are not in the order of their names."""
    plan = plan_of(method, models(SHAPES, 2, torch.bfloat16), **values)
    return replace(plan, config={"model_type": "none"}, shard_bytes=shard_bytes)


def local(plan: Plan, folder: Path) -> dict[str, bytes]:
    """What a local run writes; the ledger without its timings."""
    list(run(plan, folder, workers=2, block=512))
    return contents(folder)


def without_timings(shown: dict[str, bytes], folder: Path) -> dict[str, bytes]:
    """Files as they were shown, in a folder and read again as those of a local run."""
    for name, content in shown.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return contents(folder)


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize(
    "method", ["linear", "ties", "test_unit", "test_centred", "test_matrix_fold", "test_fold_whole"]
)
def test_what_is_shown_is_what_a_local_merge_writes(method: str, streams: bool, tmp_path: Path) -> None:
    plan = plan_in_shards(method)
    shelf = Shelf(streams=streams)
    events = list(run(plan, tmp_path / "out", deliver=shelf, workers=2, block=512))
    expected = local(plan, tmp_path / "local")
    shown = without_timings({**shelf.shown}, tmp_path / "shown")
    assert shown.pop("README.md")
    assert shown == expected
    arrived = [event.path for event in events if isinstance(event, Delivered)]
    assert sorted(arrived) == sorted(name for name in expected if name.endswith(".safetensors"))
    assert [event.way for event in events if isinstance(event, Delivering)] == ["streamed" if streams else "shards"]
    assert isinstance(events[-1], Sealed) and events[-1].published is not None
    assert events[-1].published["url"] == "https://hub/org/merged"


@pytest.mark.parametrize("streams", [True, False])
def test_the_folder_keeps_everything_but_the_weights(streams: bool, tmp_path: Path) -> None:
    list(run(plan_in_shards(), tmp_path, deliver=Shelf(streams=streams), block=512))
    held = sorted(path.name for path in tmp_path.iterdir())
    assert held == ["README.md", "config.json", "merging-ledger.jsonl", "merging.json"]
    published = json.loads((tmp_path / "merging.json").read_text())["published"]
    assert (published["repository"], published["commit"]) == ("org/merged", "1" * 40)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_at_most_two_shards_are_on_disk(workers: int, tmp_path: Path) -> None:
    shelf = Shelf()
    list(run(plan_in_shards(shard_bytes=2500), tmp_path, deliver=shelf, workers=workers))
    assert len(shelf.begun) > 9 and shelf.most_on_disk <= 2


def test_weights_that_are_to_be_kept_make_the_folder_that_a_local_merge_makes(tmp_path: Path) -> None:
    shelf = Shelf(streams=True, keeps_weights=True)
    plan = plan_in_shards()
    list(run(plan, tmp_path / "out", deliver=shelf, block=512))
    held, expected = contents(tmp_path / "out"), local(plan, tmp_path / "local")
    record = json.loads(held.pop("merging.json"))
    assert record.pop("published")
    assert record == json.loads(expected.pop("merging.json"))
    assert held.pop("README.md") == shelf.shown["README.md"]
    assert held == expected


def _arrived(events: Iterable[Event]) -> set[str]:
    return {event.path for event in events if isinstance(event, Delivered)}


@settings(max_examples=10, deadline=None)
@given(
    patience=st.integers(0, 5), second=st.integers(1, 4), streams=st.tuples(st.booleans(), st.booleans(), st.booleans())
)
def test_what_has_arrived_is_not_merged_or_sent_again(
    patience: int, second: int, streams: tuple[bool, bool, bool], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("resumed")
    plan = plan_in_shards()
    shelf = Shelf()
    events: list[Event] = []
    for more, streamed_now in zip((patience, patience + second), streams, strict=False):
        shelf.patience, shelf.streams = more, streamed_now
        # A shard may come in the moment of the fault, before the journal knows all its tensors: that one is not meant.
        arrived, before = _arrived(events), len(shelf.sends)
        with pytest.raises(HubError, match="cannot reach the Hub"):
            events.extend(run(plan, folder / "out", deliver=shelf))
        assert arrived.isdisjoint(shelf.sends[before:])
        assert shelf.shows == 0
    arrived, before = _arrived(events), len(shelf.sends)
    shelf.patience, shelf.streams = 1 << 30, streams[2]
    events = list(run(plan, folder / "out", deliver=shelf))
    assert arrived.isdisjoint(shelf.sends[before:])
    done = {event.name for event in events if isinstance(event, TensorDone)}
    index = json.loads(shelf.shown["model.safetensors.index.json"])["weight_map"]
    assert done.isdisjoint(name for name, file in index.items() if file in arrived)
    list(run(plan, folder / "local"))
    for file in sorted(set(index.values())):
        assert shelf.shown[file] == (folder / "local" / file).read_bytes()


def test_a_run_that_is_stopped_says_nothing_to_the_world_and_goes_on(tmp_path: Path) -> None:
    plan = plan_in_shards()
    for streams in (False, True):
        shelf = Shelf(streams=streams)
        events = run(plan, tmp_path / f"out-{streams}", deliver=shelf)
        first = next(event for event in events if isinstance(event, Delivered))
        events.close()  # type: ignore[attr-defined]
        assert shelf.shows == 0
        list(run(plan, tmp_path / f"out-{streams}", deliver=shelf, block=512))
        assert shelf.shows == 1 and shelf.sends.count(first.path) == 1


def test_what_is_gone_from_there_is_made_again(tmp_path: Path) -> None:
    plan = plan_in_shards()
    shelf = Shelf(patience=3)
    with pytest.raises(HubError):
        list(run(plan, tmp_path / "out", deliver=shelf, block=512))
    lost = shelf.sends[0]
    del shelf.held[lost]
    shelf.patience = 1 << 30
    list(run(plan, tmp_path / "out", deliver=shelf, block=512))
    assert shelf.sends.count(lost) == 2
    list(run(plan, tmp_path / "local"))
    assert shelf.shown[lost] == (tmp_path / "local" / lost).read_bytes()


def test_a_stream_that_breaks_is_replaced_by_whole_files_in_the_same_run(tmp_path: Path) -> None:
    plan = plan_in_shards()
    shelf = Shelf(streams=True, torn=True, patience=2)
    events: list[Event] = []
    arrived: set[str] = set()
    before = 0
    for event in run(plan, tmp_path / "out", deliver=shelf):
        if isinstance(event, Warned) and "going on with whole files" in event.text:
            shelf.patience = 1 << 30
            # As in later runs, one that came in the moment of the fault may come again.
            arrived, before = _arrived(events), len(shelf.sends)
        events.append(event)
    assert [event.way for event in events if isinstance(event, Delivering)] == ["streamed", "shards"]
    assert arrived.isdisjoint(shelf.sends[before:])
    assert len(_arrived(events)) == len(shelf.begun) - 1
    list(run(plan, tmp_path / "local"))
    for path in (tmp_path / "local").glob("*.safetensors"):
        assert shelf.shown[path.name] == path.read_bytes()


def test_a_merge_that_did_nothing_is_never_shown(tmp_path: Path) -> None:
    plan = plan_in_shards("task_arithmetic", weight=(1.0, 0.0))
    shelf = Shelf()
    with pytest.raises(MergingError, match="its weight is 0"):
        list(run(plan, tmp_path, deliver=shelf, block=512))
    assert shelf.shows == 0
    list(run(plan, tmp_path, deliver=shelf, allow_unused=True))
    assert shelf.shows == 1 and len(shelf.sends) == len(set(shelf.sends))


def test_a_refused_place_and_an_occupied_folder_are_known_before_anything_is_touched(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="may not"):
        list(run(plan_in_shards(), tmp_path / "out", deliver=Shelf(refuses=True)))
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine.txt").write_text("precious")
    shelf = Shelf()
    with pytest.raises(OutputError, match="is not empty"):
        list(run(plan_in_shards(), tmp_path, deliver=shelf, block=512))
    assert not shelf.begun


def test_a_merge_begun_here_goes_on_elsewhere_and_the_other_way_round(tmp_path: Path) -> None:
    plan = plan_in_shards()
    expected = local(plan, tmp_path / "local")
    events = run(plan, tmp_path / "out", block=512)
    next(event for event in events if isinstance(event, TensorDone))
    events.close()  # type: ignore[attr-defined]
    shelf = Shelf(patience=2)
    with pytest.raises(HubError):
        list(run(plan, tmp_path / "out", deliver=shelf, block=512))
    list(run(plan, tmp_path / "out", block=512))
    assert contents(tmp_path / "out") == expected


def test_blocks_that_come_out_of_turn_wait_within_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "AHEAD_BYTES", 3000)
    monkeypatch.setattr(streamed, "READY_BYTES", 2000)
    plan = plan_in_shards("test_matrix_fold", shard_bytes=1 << 30)
    shelf = Shelf(streams=True)
    list(run(plan, tmp_path / "out", deliver=shelf, workers=6, block=128))
    list(run(plan, tmp_path / "local"))
    assert shelf.shown["model.safetensors"] == (tmp_path / "local" / "model.safetensors").read_bytes()
