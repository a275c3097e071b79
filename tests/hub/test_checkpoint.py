"""Repositories as checkpoints: what is asked before a byte of weights, and the same bytes in every way of fetching."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

import merging
from merging.checkpoint.shards import open_checkpoint
from merging.errors import HubError, MergingError
from merging.hub.checkpoint import open_repository
from merging.hub.fetching import Fetch
from merging.hub.names import HubName
from merging.hub.scratch import scratch_root
from merging.planning.check import check
from tests import tiny
from tests.hub.server import Fault, HubServer
from tests.remote import cache, client, folder_files, server

__all__ = ["cache", "server"]

WAYS = get_args(Fetch)
NAME = HubName("tester/model")
RECIPE = """
merge_method: task_arithmetic
base_model: tester/base
models:
  - {model: tester/tuned-1, parameters: {weight: 0.5}}
  - {model: tester/tuned-2, parameters: {weight: 0.4}}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tensors, config = tiny.llama(layers=2)
    return tiny.write(tmp_path / "model", tensors, config, shards=3)


@pytest.fixture
def family(tmp_path: Path, server: HubServer) -> tiny.Family:
    """A family, also as repositories."""
    made = tiny.family(tmp_path / "family", models=2, shards=3, dtype=torch.bfloat16)
    for place in (made.base, *made.tuned):
        server.add(f"tester/{place.name}", folder_files(place))
    return made


def weights_served(server: HubServer) -> int:
    return sum(request.served for request in server.requests if request.origin == "cdn")


@pytest.mark.parametrize("fetch", WAYS)
def test_a_repository_holds_what_its_files_hold(server: HubServer, model: Path, fetch: Fetch) -> None:
    commit = server.add("tester/model", folder_files(model))
    local, remote = open_checkpoint(model), open_repository(NAME, client(server), fetch)
    assert remote.specs == local.specs
    assert remote.config == local.config
    assert remote.pinned[0].commit == commit
    for name in local.specs:
        assert torch.equal(remote.read(name), local.read(name))
        assert torch.equal(remote.read(name, 3, 9), local.read(name, 3, 9))
    assert {name: path.read_bytes() for name, path in remote.sidecars().items()} == {
        name: path.read_bytes() for name, path in local.sidecars().items()
    }
    remote.close()


def test_opening_reads_headers_and_not_a_byte_of_weights(server: HubServer, model: Path) -> None:
    server.add("tester/model", folder_files(model))
    remote = open_repository(NAME, client(server), "ranges")
    headers = sum(8 + int.from_bytes(file.read_bytes()[:8], "little") for file in model.glob("*.safetensors"))
    assert weights_served(server) == headers
    assert remote.fingerprint == open_repository(NAME, client(server), "snapshot").fingerprint


@pytest.mark.parametrize("fetch", WAYS)
def test_a_merge_of_repositories_has_the_bytes_of_the_local_merge(
    server: HubServer, family: tiny.Family, tmp_path: Path, fetch: Fetch
) -> None:
    local = RECIPE.replace("tester/", f"{family.base.parent}/")
    merging.merge(local, tmp_path / "local", shard_bytes=100_000)
    merging.merge(RECIPE, tmp_path / fetch, shard_bytes=100_000, fetch=fetch)
    ours, theirs = open_checkpoint(tmp_path / "local"), open_checkpoint(tmp_path / fetch)
    assert list(ours.specs) == list(theirs.specs)
    for name in ours.specs:
        assert torch.equal(ours.read(name), theirs.read(name))
    assert server.token not in "".join(
        file.read_text() for file in (tmp_path / fetch).glob("*.json*") if file.suffix != ".safetensors"
    )


def test_every_way_of_fetching_gives_the_same_files(server: HubServer, family: tiny.Family, tmp_path: Path) -> None:
    assert family.base.exists()
    for fetch in WAYS:
        merging.merge(RECIPE, tmp_path / fetch, fetch=fetch)
    written = [(tmp_path / fetch / "model.safetensors").read_bytes() for fetch in WAYS]
    assert written[0] == written[1] == written[2]
    record = merging.engine.folder.read_record(tmp_path / "ranges")  # type: ignore[attr-defined]
    assert record is not None
    assert [model["commit"] for model in record["models"]] == [
        server.head(model["repository"]) for model in record["models"]
    ]
    assert len(record["parents"]) == 3


def test_the_record_says_which_check_the_bytes_have_passed(
    server: HubServer, family: tiny.Family, tmp_path: Path
) -> None:
    from merging.engine.folder import read_record

    assert family.base.exists()
    told = {}
    for fetch in ("ranges", "shards", "snapshot", "snapshot again"):
        merging.merge(RECIPE, tmp_path / fetch, fetch=fetch.split()[0])
        record = read_record(tmp_path / fetch)
        assert record is not None
        told[fetch] = {parent["integrity"] for parent in record["parents"]}
    assert told == {
        "ranges": {"none: ranges"},
        "shards": {"sha256 of whole files"},
        "snapshot": {"sha256 of whole files"},
        "snapshot again": {"size of files"},
    }
    assert server.requests


def test_files_fetched_one_after_another_leave_the_disk_again(
    server: HubServer, family: tiny.Family, tmp_path: Path
) -> None:
    merging.merge(RECIPE, tmp_path / "out", fetch="shards")
    left = [file for file in scratch_root().rglob("*") if file.suffix == ".safetensors"]
    assert left == []
    sizes = [file.stat().st_size for place in (family.base, *family.tuned) for file in place.glob("*.safetensors")]
    whole = [r.served for r in server.requests if r.origin == "cdn" and r.method == "GET" and r.served in sizes]
    assert sorted(whole) == sorted(sizes)


@pytest.mark.parametrize("fetch", WAYS)
def test_check_asks_for_headers_only_and_says_what_would_be_fetched(
    server: HubServer, family: tiny.Family, fetch: Fetch
) -> None:
    report = check(RECIPE, fetch=fetch)
    weights = sum(file.stat().st_size for place in (family.base, *family.tuned) for file in place.glob("*.safetensors"))
    assert report.good
    assert report.plan is not None
    data = sum(spec.nbytes for model in report.plan.models for spec in model.specs.values())
    assert report.fetched_bytes == (data if fetch == "ranges" else weights)
    assert weights_served(server) < weights / 4


def test_an_adapter_on_the_hub_is_applied_to_a_base_model_on_the_hub(server: HubServer, tmp_path: Path) -> None:
    zoo = merging.find_zoo()
    name, adapter = next(iter(zoo.adapters.items()))
    server.add("tester/base", folder_files(zoo.base))
    server.add("tester/lora", folder_files(adapter))
    here, there = merging.open_source(f"{zoo.base}+{adapter}"), merging.open_source("tester/base+tester/lora@main")
    assert name
    assert [each.repository for each in there.pinned] == ["tester/base", "tester/lora"]  # type: ignore[attr-defined]
    for tensor in here.specs:
        assert torch.equal(here.read(tensor), there.read(tensor))
    assert tmp_path.exists()


def test_all_that_is_wrong_with_repositories_is_said_at_once(server: HubServer, family: tiny.Family) -> None:
    assert family.base.exists()
    server.add("tester/pickled", {"pytorch_model.bin": b"x" * 100, "config.json": b"{}"})
    recipe = RECIPE.replace("tester/tuned-1", "tester/tunde-1").replace("tester/tuned-2", "tester/pickled")
    problems = check(recipe, fetch="ranges").problems
    assert [type(problem).__name__ for problem in problems] == ["NoRepositoryError", "CheckpointError"]
    assert "no repository tester/tunde-1" in problems[0].what
    assert "no safetensors weights" in problems[1].what


@pytest.mark.parametrize(
    ("name", "token", "words"),
    [
        (HubName("tester/none"), None, "there is no repository tester/none"),
        (HubName("tester/model", "v9"), None, "there is no such revision: tester/model@v9"),
        (HubName("tester/private"), "", "there is no repository tester/private, or it is private"),
        (HubName("tester/gated"), None, "is gated, and this account has no access to it"),
        (HubName("tester/model"), "hf_wrongwrongwrong", "token"),
    ],
)
def test_what_may_not_be_read_says_why(
    server: HubServer, model: Path, name: HubName, token: str | None, words: str
) -> None:
    files = folder_files(model)
    server.add("tester/model", files)
    server.add("tester/private", files, private=True)
    server.add("tester/gated", files, gated=True)
    with pytest.raises(HubError) as caught:
        open_repository(name, client(server, token), "ranges")
    assert words in str(caught.value)
    assert "hf_wrong" not in str(caught.value)


def test_a_hostile_header_is_refused_before_anything_is_made_of_it(server: HubServer, model: Path) -> None:
    files: dict[str, Path | bytes] = dict(folder_files(model))
    shard = "model-00002-of-00003.safetensors"
    files[shard] = (1 << 40).to_bytes(8, "little") + (model / shard).read_bytes()[8:]
    server.add("tester/model", files)
    with pytest.raises(MergingError, match="header claims"):
        open_repository(NAME, client(server), "ranges")


def test_a_revision_is_pinned_once(server: HubServer, model: Path) -> None:
    first = server.add("tester/model", folder_files(model))
    opened = open_repository(NAME, client(server), "ranges")
    tensors, config = tiny.llama(layers=2, seed=5)
    server.add("tester/model", folder_files(tiny.write(model.parent / "later", tensors, config, shards=3)))
    assert opened.pinned[0].commit == first
    local = open_checkpoint(model)
    for name in local.specs:
        assert torch.equal(opened.read(name), local.read(name))


def test_what_the_cache_holds_needs_no_connection(
    server: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add("tester/model", folder_files(model))
    online = open_repository(NAME, client(server), "snapshot")
    values = {name: online.read(name) for name in online.specs}
    online.sidecars()
    asked = len(server.requests)
    offline = client(server)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    again = open_repository(NAME, type(offline)(offline.endpoint, offline.token, offline=True), "snapshot")
    assert again.fingerprint == online.fingerprint
    assert all(torch.equal(again.read(name), values[name]) for name in values)
    assert len(again.sidecars()) == len(online.sidecars())
    assert len(server.requests) == asked


def test_a_file_of_other_content_than_told_is_refused_and_not_kept(server: HubServer, model: Path) -> None:
    server.add("tester/model", folder_files(model))
    opened = open_repository(NAME, client(server), "snapshot")
    server.fail(Fault("GET", r"00001-of-00003|objects|lfs", corrupt=True))
    name = next(iter(opened.specs))
    with pytest.raises(HubError, match="arrived with other content than the Hub told"):
        opened.read(name)
    assert torch.equal(opened.read(name), open_checkpoint(model).read(name))
