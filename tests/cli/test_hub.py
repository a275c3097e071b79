"""The command line and the Hub: check before download, three ways to merge, pull, and what never shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from merging.checkpoint.shards import open_checkpoint
from tests import tiny
from tests.command_line import Call, caller
from tests.hub.server import Fault, HubServer
from tests.remote import cache, folder_files, server

__all__ = ["cache", "server"]

RECIPE = """
merge_method: ties
base_model: tester/base
models:
  - {model: tester/tuned-1@main, parameters: {weight: 0.5, density: 0.4}}
  - {model: hf://tester/tuned-2, parameters: {weight: 0.4, density: 0.6}}
"""


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(capsys)


@pytest.fixture
def hub(tmp_path: Path, server: HubServer) -> HubServer:
    made = tiny.family(tmp_path / "family", models=2, shards=3, dtype=torch.bfloat16)
    for place in (made.base, *made.tuned):
        server.add(f"tester/{place.name}", folder_files(place))
    return server


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_check_knows_everything_before_a_byte_of_weights(call: Call, hub: HubServer, recipe: Path) -> None:
    found = json.loads(call("check", recipe, "--json", "--fetch", "ranges").out)
    assert found["good"]
    assert 0 < found["fetched_bytes"] <= found["read_bytes"]
    assert sum(r.served for r in hub.requests if r.origin == "cdn") < found["read_bytes"] / 4
    recipe.write_text(RECIPE.replace("tuned-1@main", "tuned-9").replace("ties", "tise"))
    wrong = call("check", recipe)
    assert wrong.code == 1
    assert "ties" in wrong.err


@pytest.mark.parametrize("fetch", ["snapshot", "shards", "ranges"])
def test_a_recipe_of_repositories_is_merged(
    call: Call, hub: HubServer, recipe: Path, tmp_path: Path, fetch: str
) -> None:
    out = tmp_path / "out"
    done = call("run", recipe, out, "--fetch", fetch)
    assert done.code == 0, done.err
    assert call("verify", out, "--all", "--fetch", fetch).code == 0
    record = json.loads((out / "merging.json").read_text())
    assert [parent["repository"] for parent in record["parents"]] == [m["repository"] for m in record["models"]]
    written = "".join(file.read_text() for file in out.iterdir() if file.suffix in (".json", ".jsonl"))
    for secret in (hub.token, "Signature"):
        assert secret not in written + done.out + done.err


def test_pull_says_where_the_files_are(call: Call, hub: HubServer, tmp_path: Path) -> None:
    done = call("pull", "tester/base@main", tmp_path / "pulled")
    assert done.code == 0
    assert done.out.strip() == str(tmp_path / "pulled")
    pulled, original = open_checkpoint(tmp_path / "pulled"), open_checkpoint(tmp_path / "family" / "base")
    assert all(torch.equal(pulled.read(name), original.read(name)) for name in original.specs)
    cached = call("pull", "tester/base")
    assert (Path(cached.out.strip()) / "config.json").exists()
    assert hub.requests
    assert call("pull", "no name").code == 1


def test_a_fault_of_the_hub_is_one_clear_message(call: Call, hub: HubServer, recipe: Path, tmp_path: Path) -> None:
    hub.fail(Fault("GET", "/api/models/tester/base", status=403, times=99))
    failed = call("run", recipe, tmp_path / "out")
    assert failed.code == 1
    assert "Traceback" not in failed.err
    assert "tester/base" in failed.err
    assert hub.token not in failed.err
    assert not (tmp_path / "out").exists()


def test_verify_reads_the_commits_that_were_merged_wherever_the_branches_are_now(
    call: Call, hub: HubServer, recipe: Path, tmp_path: Path
) -> None:
    assert call("run", recipe, tmp_path / "out", "--fetch", "ranges").code == 0
    other = tiny.family(tmp_path / "later", models=2, shards=3, dtype=torch.bfloat16, seed=9)
    for place in (other.base, *other.tuned):
        hub.add(f"tester/{place.name}", folder_files(place))
    assert call("verify", tmp_path / "out", "--fetch", "ranges").code == 0
    assert call("run", recipe, tmp_path / "again", "--fetch", "ranges").code == 0
    both = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "again")]
    assert both[0] != both[1]


def test_explain_says_what_is_fetched(call: Call, hub: HubServer, recipe: Path) -> None:
    assert hub.requests == []
    assert "from the Hub" in call("explain", recipe).out
    whole = json.loads(call("explain", recipe, "--json").out)["fetched_bytes"]
    assert whole == json.loads(call("check", recipe, "--json").out)["fetched_bytes"] > 0
