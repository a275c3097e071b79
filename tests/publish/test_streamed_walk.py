"""The command line, from models on a Hub to a merge on the Hub, killed with no warning or interrupted in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest
import torch

import merging
from merging.engine.provenance import shareable
from merging.errors import MergingError
from merging.jobs.options import checked_options
from tests import tiny
from tests.command_line import commands, heed_interrupts
from tests.hub.server import Fault, HubServer
from tests.remote import folder_files

SHARDS = 3


class Walk:
    """Models in a Hub, a recipe that names them, and `merging run` as a program of its own."""

    def __init__(self, hub: HubServer, folder: Path):
        self.hub = hub
        self.folder = folder
        made = tiny.family(folder / "family", models=2, dtype=torch.bfloat16)
        for place in (made.base, *made.tuned):
            hub.add(f"tester/{place.name}", folder_files(place))
        models = [{"model": f"tester/{place.name}"} for place in made.tuned]
        recipe = {"merge_method": "ties", "base_model": "tester/base", "models": models, "parameters": {"density": 0.4}}
        (folder / "recipe.yaml").write_text(merging.write_yaml(recipe))
        size = (made.base / "model.safetensors").stat().st_size
        self._options = ["--shard-size", str(size // SHARDS + 8_000), "--fetch", "ranges", "--json-events"]
        self._environment = {**os.environ, **hub.environment()}

    def start(self, out: str, *options: str) -> subprocess.Popen[str]:
        """The program at work."""
        line = [sys.executable, "-m", "merging", "run", str(self.folder / "recipe.yaml"), str(self.folder / out)]
        pipe = subprocess.PIPE
        line += [*self._options, *options]
        return subprocess.Popen(
            line, env=self._environment, stdout=pipe, stderr=pipe, text=True, preexec_fn=heed_interrupts
        )

    def run(self, out: str, *options: str) -> list[dict[str, object]]:
        """Its events, once it has ended well."""
        told, errors = (child := self.start(out, *options)).communicate()
        assert child.returncode == 0, errors
        return [json.loads(line) for line in told.splitlines()]

    def wait_for_second(self, method: str, path: str) -> None:
        """Until two such requests have come."""
        wanted = Fault(method, path)

        def came() -> bool:
            return sum(wanted.means(each.method, each.path) for each in self.hub.requests) > 1

        with self.hub.book.changed:
            assert self.hub.book.changed.wait_for(came, timeout=60)


@pytest.fixture(params=[False, True], ids=["lfs", "xet"])
def walk(request: pytest.FixtureRequest, tmp_path: Path) -> Walk:
    with HubServer(tmp_path, xet=request.param) as hub:
        yield Walk(hub, tmp_path)


def weights(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if ".safetensors" in name}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_run_that_ends_in_the_middle_goes_on_to_the_same_commit(walk: Walk, number: signal.Signals) -> None:
    method, path = ("POST", "/v1/shards") if walk.hub.xet else ("PUT", "/upload/")
    hold = Event()
    walk.hub.fail(Fault(method, path, skip=1, hold=hold))
    child = walk.start("out", "--push", "tester/merged")
    walk.wait_for_second(method, path)
    child.send_signal(number)
    told, errors = child.communicate()
    hold.set()
    if number == signal.SIGINT:
        assert child.returncode == 130
        assert "to go on: merging run" in errors and "nothing of it is visible" in errors
    else:
        assert child.returncode == -signal.SIGKILL
    assert set(walk.hub.contents("tester/merged")) == {".gitattributes"}
    sent = [each["path"] for each in map(json.loads, told.splitlines()) if each["event"] == "Delivered"]
    assert sent == ["model-00001-of-00003.safetensors"]

    events = walk.run("out", "--push", "tester/merged")
    begun = next(event for event in events if event["event"] == "RunStarted")
    assert begun["kept_tensors"]
    again = [event["path"] for event in events if event["event"] == "Delivered"]
    assert len(again) == SHARDS - 1 and not set(again) & set(sent)
    walk.run("local")
    local = {file.name: file.read_bytes() for file in (walk.folder / "local").iterdir()}
    there = walk.hub.contents("tester/merged")
    assert weights(there) == weights(local)
    for name in ("config.json", "tokenizer.json"):
        assert there[name] == local[name]
    assert json.loads(there["merging.json"]) == shareable(json.loads(local["merging.json"]))
    assert not list((walk.folder / "out").glob("*.safetensors*"))


def test_nothing_is_asked_of_the_hub_for_a_recipe_that_cannot_be_planned(walk: Walk) -> None:
    path = walk.folder / "recipe.yaml"
    path.write_text(path.read_text().replace("density: 0.4", "density: 7"))
    child = walk.start("out", "--push", "tester/merged")
    _, errors = child.communicate()
    assert child.returncode == 1 and "density" in errors
    assert "tester/merged" not in walk.hub.state.repositories
    assert not any(request.method == "POST" for request in walk.hub.requests)
    assert not (walk.folder / "out").exists()


def test_no_token_is_left_in_anything_that_was_written_or_said(walk: Walk) -> None:
    child = walk.start("out", "--push", "tester/merged", "--job", str(walk.folder / "jobs" / "one"))
    told, errors = child.communicate()
    assert child.returncode == 0, errors
    for text in (told, errors):
        assert walk.hub.token not in text
    for place in ("out", "jobs"):
        for file in (walk.folder / place).rglob("*"):
            assert file.is_dir() or walk.hub.token.encode() not in file.read_bytes()
    assert all(walk.hub.token.encode() not in content for content in walk.hub.contents("tester/merged").values())


def test_a_job_may_be_given_the_options_of_a_push() -> None:
    known = {name for option in commands()["run"].params for name in option.opts}
    given = ["--push=org/name@branch", "--push-branch=b", "--push-pr", "--push-public", "--keep-weights"]
    assert checked_options(given) == {}
    assert {word.partition("=")[0] for word in given} <= known
    for word in ("--push=nowhere", "--push-branch="):
        with pytest.raises(MergingError):
            checked_options([word])


def test_options_of_a_push_need_one(walk: Walk) -> None:
    child = walk.start("out", "--push-pr")
    _, errors = child.communicate()
    assert child.returncode == 2 and "--push" in errors
