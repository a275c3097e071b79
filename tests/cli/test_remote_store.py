"""The way of a store as persons go it: compressed, pushed, read from the Hub by every command, pulled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.command_line import Call, caller
from tests.hub.server import HubServer
from tests.remote import cache, folder_files, server
from tests.store.stores import recipe_of

__all__ = ["cache", "server"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

TASK = "store:tester/tasks#tuned-2"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """The program."""
    return caller(capsys)


@pytest.fixture
def pushed(call: Call, server: HubServer, tmp_path: Path) -> HubServer:
    """A store that was pushed, on a base model in a repository of its own."""
    family = tiny.family(tmp_path / "family", models=2, dtype=torch.bfloat16)
    server.add("tester/base", folder_files(family.base))
    (tmp_path / "emr.yaml").write_text(recipe_of(family, "emr").replace(str(family.base), "tester/base"))
    assert call("compress", tmp_path / "emr.yaml", tmp_path / "tasks", "--quiet").code == 0
    done = call("push", tmp_path / "tasks", "tester/tasks", "--public")
    assert done.code == 0, done.err
    assert done.out.strip() == f"{server.endpoint}/tester/tasks/commit/{server.head('tester/tasks')}"
    (tmp_path / "one.yaml").write_text(f"merge_method: passthrough\nmodels:\n- model: {TASK}\n")
    return server


@pytest.mark.usefixtures("pushed")
def test_every_command_takes_a_task_on_the_hub_for_a_model(call: Call, tmp_path: Path) -> None:
    listed = json.loads(call("inspect", TASK, "--json").out)
    assert (listed["location"], listed["family"]) == (TASK, "llama")
    assert "tokenizer.json" in listed["sidecars"]
    checked = json.loads(call("check", tmp_path / "one.yaml", "--json").out)
    assert checked["good"]
    assert checked["fetched_bytes"] > 0
    assert "from the Hub" in call("explain", tmp_path / "one.yaml").out
    seen = call("diagnose", TASK, "store:tester/tasks#1", "--base", "tester/base", "--no-cache")
    assert seen.code == 0, seen.err
    assert call("run", tmp_path / "one.yaml", tmp_path / "one", "--fetch", "ranges", "--quiet").code == 0
    assert call("verify", tmp_path / "one", "--all", "--fetch", "ranges").code == 0


@pytest.mark.usefixtures("pushed")
def test_a_pulled_store_is_read_and_verified_where_it_lies(call: Call, tmp_path: Path) -> None:
    done = call("pull", "tester/tasks", tmp_path / "pulled")
    assert done.code == 0, done.err
    assert "tensors are as written" in call("verify", tmp_path / "pulled").out
    (tmp_path / "pulled" / "mask-1.safetensors").unlink()
    assert call("inspect", f"store:{tmp_path / 'pulled'}#tuned-2").code == 0
    assert "mask-1" in call("inspect", f"store:{tmp_path / 'pulled'}#tuned-1").err
    assert "mask-1" in call("verify", tmp_path / "pulled").err


def test_what_one_task_needs_is_pulled_and_then_another(call: Call, pushed: HubServer, tmp_path: Path) -> None:
    out = tmp_path / "pulled"
    assert call("pull", TASK, out).code == 0
    assert sorted(path.name for path in out.glob("*.safetensors")) == ["mask-2.safetensors", "vector.safetensors"]
    assert call("inspect", f"store:{out}#tuned-2").code == 0
    before = len(pushed.requests)
    assert call("pull", "store:hf://tester/tasks@main#1", out).code == 0
    fetched = [request for request in pushed.requests[before:] if request.origin == "cdn" and request.method == "GET"]
    assert len(fetched) == 1
    assert call("verify", out).code == 0
    for name, says in {
        "store:tester/tasks#9": "holds no task",
        "store:tester/base#1": "is no store of tasks",
        "store:tasks": "names no repository",
    }.items():
        assert says in call("pull", name, tmp_path / "none").err
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("pushed")
def test_what_is_misspelled_is_one_clear_message(call: Call) -> None:
    for source, says in {
        "store:tester/tasks#tuned-3": "write store:tester/tasks#tuned-",
        "store:tester/tasks": "the task of the store tester/tasks is not named",
        "store:tester/base#1": "is no store of tasks",
        "store:tester/nothing#1": "there is no repository tester/nothing",
        "tester/tasks": "store:tester/tasks#tuned-1, store:tester/tasks#tuned-2",
    }.items():
        shown = call("inspect", source)
        assert shown.code == 1
        assert says in shown.err, source
        assert "Traceback" not in shown.err


def test_a_store_with_a_local_base_is_not_published(call: Call, server: HubServer, tmp_path: Path) -> None:
    family = tiny.family(tmp_path, models=2)
    (tmp_path / "emr.yaml").write_text(recipe_of(family, "emr"))
    assert call("compress", tmp_path / "emr.yaml", tmp_path / "tasks", "--quiet").code == 0
    shown = call("push", tmp_path / "tasks", "tester/tasks")
    assert shown.code == 1
    assert "the base model of the store is ../base, which nobody finds from the Hub" in shown.err
    assert server.requests == []
