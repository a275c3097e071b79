"""`merging push` as a person calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from merging.cli.push import push as command
from merging.errors import HubError
from tests.hub.server import Fault, HubServer
from tests.publish.loopback import NAME, either, merged, plain

__all__ = ["either", "merged", "plain"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(command, list(map(str, arguments)))

    return invoke


def test_the_command_shows_what_it_will_do_and_prints_the_address(plain: HubServer, merged: Path, run: Run) -> None:
    done = run(merged, NAME)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == f"{plain.endpoint}/{NAME}/commit/{plain.head(NAME)}"
    assert f"{NAME}: a new repository, private; as tester" in done.stderr
    assert "not published" in done.stderr
    assert "notes.txt" in done.stderr
    again = json.loads(run(merged, NAME, "--json").stdout)
    assert again["commit"] == plain.head(NAME)
    assert "public, and stays so" not in done.stderr


def test_the_command_prints_the_card_and_changes_nothing_when_dry(plain: HubServer, merged: Path, run: Run) -> None:
    done = run(merged, NAME, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "base_model" in done.stdout or "license" in done.stdout
    assert "model-00001-of-00002.safetensors" in done.stdout
    told = json.loads(run(merged, NAME, "--dry-run", "--json", "--public").stdout)
    assert (told["new"], told["private"], told["left_out"]) == (True, False, ["notes.txt"])
    assert NAME not in plain.state.repositories


def test_the_command_opens_a_pull_request_and_refuses_a_stale_parent(plain: HubServer, merged: Path, run: Run) -> None:
    head = plain.add(NAME, {"old.txt": b"old"})
    done = run(merged, NAME, "--pr", "-m", "by hand")
    assert done.stdout.strip() == f"{plain.endpoint}/{NAME}/discussions/1"
    assert plain.head(NAME) == head
    assert plain.state.repositories[NAME].at("refs/pr/1").title == "by hand"
    stale = run(merged, NAME, "--parent", "0" * 40)
    assert stale.exit_code == 1
    assert isinstance(stale.exception, HubError)
    assert plain.head(NAME) == head


def test_a_refused_commit_is_no_success(plain: HubServer, merged: Path, run: Run) -> None:
    plain.fail(Fault("POST", f"{NAME}/commit/", times=99, status=403))
    assert run(merged, NAME).exit_code == 1


def test_the_token_is_in_no_address_text_or_file(either: HubServer, merged: Path, run: Run) -> None:
    either.fail(Fault("POST", f"{NAME}/commit/", status=400))
    outcomes = [run(merged, NAME), run(merged, NAME), run(merged, NAME, "--dry-run")]
    texts = [text for each in outcomes for text in (each.output, str(each.exception))]
    texts += [request.path for request in either.requests]
    texts += [content.decode("latin-1") for content in either.contents(NAME).values()]
    assert not [text for text in texts if either.token in text]
    assert {request.token for request in either.requests if request.origin == "hub"} <= {either.token, None}
    assert either.token not in {request.token for request in either.requests if request.origin == "cdn"}
