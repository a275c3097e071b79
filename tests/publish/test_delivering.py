"""A merge sent to the Hub while it is made: the bytes of a local one, nothing by halves, nobody's text overwritten."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import merging
from merging.engine.events import Delivered, Delivering, Event, RunStarted, Warned
from merging.engine.provenance import shareable
from merging.engine.run import run
from merging.engine.verify import Verification, verify
from merging.errors import HubError, HubWarning, MergingError
from merging.planning.build import plan as make_plan
from merging.planning.plan import Plan
from merging.publish.delivering import HubDelivery
from merging.publish.upload import Target
from tests import tiny
from tests.hub.server import Fault, HubServer
from tests.publish.loopback import NAME, commits, either, hub_of, plain, xet
from tests.remote import folder_files

__all__ = ["either", "plain", "xet"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


@pytest.fixture
def family(tmp_path: Path) -> tiny.Family:
    return tiny.family(tmp_path / "family", models=2, dtype=torch.bfloat16)


def wish(family: tiny.Family, weights: tuple[float, float] = (0.5, 0.25)) -> Plan:
    """A merge into three shards."""
    models = [
        {"model": str(place), "parameters": {"weight": weight}}
        for place, weight in zip(family.tuned, weights, strict=True)
    ]
    recipe = {"merge_method": "task_arithmetic", "base_model": str(family.base), "models": models}
    size = (family.base / "model.safetensors").stat().st_size
    return make_plan(merging.write_yaml(recipe), shard_bytes=size * 2 // 5)


def delivery(server: HubServer, token: str | None = None, **target: object) -> HubDelivery:
    hub = hub_of(server) if token is None else replace(hub_of(server), token=token)
    return HubDelivery(hub, Target(NAME, **target))  # type: ignore[arg-type]


def weights_of(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if ".safetensors" in name}


@pytest.fixture
def local(family: tiny.Family, tmp_path: Path) -> dict[str, bytes]:
    """What a local merge writes."""
    list(run(wish(family), tmp_path / "local"))
    return {path.name: path.read_bytes() for path in (tmp_path / "local").iterdir()}


def test_the_commit_holds_what_a_local_merge_writes_and_a_card(
    either: HubServer, family: tiny.Family, local: dict[str, bytes], tmp_path: Path
) -> None:
    events = list(run(wish(family), tmp_path / "out", deliver=delivery(either)))
    there = either.contents(NAME)
    different = {name for name, content in local.items() if there.get(name) != content}
    # The ledger tells how long each tensor took, the record where the recipe lay.
    assert different == {"merging-ledger.jsonl", "merging.json"}
    records = [json.loads(files["merging.json"]) for files in (local, there)]
    assert records[1] == shareable(records[0])
    assert set(there) - set(local) == {".gitattributes", "README.md", "merging-layers.svg"}
    assert b"task_arithmetic" in there["README.md"]
    assert [e.way for e in events if isinstance(e, Delivering)] == ["streamed" if either.xet else "shards"]
    assert commits(either) == 1 and either.state.repositories[NAME].private


def test_the_folder_says_where_the_weights_are_and_holds_the_rest(
    either: HubServer, family: tiny.Family, tmp_path: Path
) -> None:
    list(run(wish(family), tmp_path / "out", deliver=delivery(either)))
    record = json.loads((tmp_path / "out" / "merging.json").read_text())
    assert record["published"]["repository"] == NAME
    assert record["published"]["commit"] == either.head(NAME)
    assert not list((tmp_path / "out").glob("*.safetensors*"))
    assert not (tmp_path / "out" / ".merging").exists()
    for name in ("README.md", "config.json", "tokenizer.json", "merging-ledger.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == either.contents(NAME)[name]


def test_a_merge_whose_weights_are_elsewhere_is_verified_there(
    plain: HubServer, family: tiny.Family, tmp_path: Path
) -> None:
    list(run(wish(family), tmp_path / "out", deliver=delivery(plain)))
    *_, result = verify(tmp_path / "out", wish(family))
    assert isinstance(result, Verification) and result.good and result.recomputed
    ledger = tmp_path / "out" / "merging-ledger.jsonl"
    digest = json.loads(ledger.read_text().splitlines()[0])["digest"]
    ledger.write_text(ledger.read_text().replace(digest, "0" * 32))
    *_, result = verify(tmp_path / "out")
    assert isinstance(result, Verification) and len(result.corrupt) == 1


def test_a_token_that_may_not_write_is_refused_before_a_tensor_is_read(
    plain: HubServer, family: tiny.Family, tmp_path: Path
) -> None:
    with pytest.raises(HubError, match="may only read"):
        next(run(wish(family), tmp_path / "out", deliver=delivery(plain, plain.read_token)))
    assert not (tmp_path / "out").exists()
    assert NAME not in plain.state.repositories


def test_an_occupied_folder_leaves_the_hub_alone(plain: HubServer, family: tiny.Family, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(MergingError, match="is not empty"):
        next(run(wish(family), tmp_path / "out", deliver=delivery(plain)))
    assert plain.requests == []


def test_weights_of_another_model_are_refused_before_a_tensor_is_read(
    plain: HubServer, family: tiny.Family, tmp_path: Path
) -> None:
    head = plain.add(NAME, {"model.safetensors": b"old", "README.md": b"# Mine\n"})
    with pytest.raises(HubError, match="weights of another model"):
        next(run(wish(family), tmp_path / "out", deliver=delivery(plain)))
    assert plain.head(NAME) == head


def test_a_readme_that_a_person_wrote_stays(plain: HubServer, family: tiny.Family, tmp_path: Path) -> None:
    plain.add(NAME, {"README.md": b"# Mine\n\nBy hand.\n"})
    list(run(wish(family), tmp_path / "out", deliver=delivery(plain)))
    there = plain.contents(NAME)
    assert b"# Mine\n\nBy hand.\n" in there["README.md"]
    assert b"task_arithmetic" in there["MERGE.md"]


def test_a_merge_that_did_nothing_makes_no_commit(plain: HubServer, family: tiny.Family, tmp_path: Path) -> None:
    with pytest.raises(MergingError, match="contributed nothing"):
        list(run(wish(family, (1.0, 0.0)), tmp_path / "out", deliver=delivery(plain)))
    assert commits(plain) == 0


def test_what_broke_goes_on_without_merging_or_sending_again(
    plain: HubServer, family: tiny.Family, local: dict[str, bytes], tmp_path: Path
) -> None:
    plain.fail(Fault("PUT", "/upload/", skip=1, times=99, status=403))
    with pytest.raises(HubError):
        list(run(wish(family), tmp_path / "out", deliver=delivery(plain)))
    plain.mend()
    assert commits(plain) == 0
    events = list(run(wish(family), tmp_path / "out", deliver=delivery(plain)))
    assert next(event for event in events if isinstance(event, RunStarted)).kept_tensors > 0
    assert len([event for event in events if isinstance(event, Delivered)]) == 2
    puts = [request.path for request in plain.requests if request.method == "PUT" and request.status == 200]
    assert len(puts) == len(set(puts)) == 3
    assert weights_of(plain.contents(NAME)) == weights_of(local)


@pytest.mark.parametrize("where", ["xet-write-token", "/xorbs/", "/shards"])
def test_where_xet_fails_whole_files_are_sent_in_the_same_run(
    xet: HubServer, family: tiny.Family, local: dict[str, bytes], tmp_path: Path, where: str
) -> None:
    xet.fail(Fault("", where, times=999, status=403))
    events: list[Event] = []
    with pytest.warns(HubWarning) if where == "xet-write-token" else nullcontext():
        events.extend(run(wish(family), tmp_path / "out", deliver=delivery(xet)))
    assert [event.way for event in events if isinstance(event, Delivering)][-1] == "shards"
    told = [event.text for event in events if isinstance(event, Warned)]
    assert any("going on with whole files" in text for text in told) or where == "xet-write-token"
    assert weights_of(xet.contents(NAME)) == weights_of(local)
    assert commits(xet) == 1


def test_a_branch_that_moved_is_refused_and_then_followed(
    plain: HubServer, family: tiny.Family, local: dict[str, bytes], tmp_path: Path
) -> None:
    plain.add(NAME, {"notes.txt": b"old"})
    events = run(wish(family), tmp_path / "out", deliver=delivery(plain))
    for event in events:
        if isinstance(event, Delivered):
            plain.add(NAME, {"notes.txt": b"new"})
            break
    with pytest.raises(HubError, match="has moved on"):
        list(events)
    before = len([request for request in plain.requests if request.method == "PUT"])
    list(run(wish(family), tmp_path / "out", deliver=delivery(plain)))
    assert len([request for request in plain.requests if request.method == "PUT"]) == before
    assert weights_of(plain.contents(NAME)) == weights_of(local)
    assert plain.contents(NAME)["notes.txt"] == b"new"


def test_a_run_that_ended_between_commit_and_record_makes_no_second_commit(
    either: HubServer, family: tiny.Family, tmp_path: Path
) -> None:
    events = run(wish(family), tmp_path / "out", deliver=_Ending(hub_of(either), Target(NAME)))
    with pytest.raises(KeyboardInterrupt):
        list(events)
    head = either.head(NAME)
    assert (tmp_path / "out" / ".merging").exists()
    list(run(wish(family), tmp_path / "out", deliver=delivery(either)))
    assert either.head(NAME) == head
    assert json.loads((tmp_path / "out" / "merging.json").read_text())["published"]["commit"] == head


class _Ending(HubDelivery):
    """A delivery whose program ends right after the commit."""

    def publish(self, *given: object) -> Mapping[str, object]:
        super().publish(*given)  # type: ignore[arg-type]
        raise KeyboardInterrupt


def test_a_pull_request_leaves_the_branch_alone(either: HubServer, family: tiny.Family, tmp_path: Path) -> None:
    head = either.add(NAME, {"notes.txt": b"old"})
    list(run(wish(family), tmp_path / "out", deliver=delivery(either, pull_request=True)))
    assert either.head(NAME) == head
    record = json.loads((tmp_path / "out" / "merging.json").read_text())
    assert record["published"]["pull_request"]
    assert "model.safetensors.index.json" in either.contents(NAME, "refs/pr/1")


def test_sources_on_the_hub_stand_in_the_published_record(
    plain: HubServer, family: tiny.Family, tmp_path: Path
) -> None:
    pinned = {place.name: plain.add(f"tester/{place.name}", folder_files(place)) for place in family.tuned}
    plain.add("tester/base", folder_files(family.base))
    models = [
        {"model": f"tester/{place.name}", "parameters": {"weight": weight}}
        for place, weight in zip(family.tuned, (0.5, 0.25), strict=True)
    ]
    recipe = {"merge_method": "task_arithmetic", "base_model": "tester/base", "models": models}
    plan = make_plan(merging.write_yaml(recipe), shard_bytes=wish(family).shard_bytes, fetch="ranges")
    list(run(plan, tmp_path / "out", deliver=delivery(plain)))
    there = plain.contents(NAME)
    told = {each["repository"]: each for each in json.loads(there["merging.json"])["parents"]}
    assert {name.partition("/")[2]: told[name]["commit"] for name in told if "tuned" in name} == pinned
    assert told["tester/base"]["integrity"] == "none: ranges"
    list(run(plan, tmp_path / "again"))
    assert weights_of(there) == weights_of({path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()})
