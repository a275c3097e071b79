"""`merging push` as a person calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
from click.testing import CliRunner, Result

from merging.cli.push import push as command
from merging.errors import HubError
from merging.jobs.jobs import Jobs
from tests.command_line import heed_interrupts
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
    assert "nothing was committed" not in done.stderr
    assert "nothing was committed" in run(merged, NAME).stderr
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


def test_a_push_may_be_a_job(plain: HubServer, merged: Path, tmp_path: Path, run: Run) -> None:
    done = run(merged, NAME, "--job", tmp_path / "jobs" / "first")
    assert done.exit_code == 0, done.output
    job = Jobs(tmp_path / "jobs").find("first")
    assert job.state == "done"
    assert job.published is not None
    assert (job.repository, job.published["commit"]) == (NAME, plain.head(NAME))
    sent = [event["path"] for event in job.events() if event.get("event") == "Sent"]
    assert sorted(sent) == [path.name for path in sorted(merged.glob("*.safetensors"))]


def test_an_interrupt_ends_the_program_at_once_and_nothing_is_visible(either: HubServer, merged: Path) -> None:
    hold = Event()
    way = ("POST", "/xorbs/") if either.xet else ("PUT", "/upload/")
    either.fail(Fault(*way, times=9, hold=hold))
    line = [sys.executable, "-m", "merging", "push", str(merged), NAME]
    child = subprocess.Popen(
        line,
        env={**os.environ, **either.environment()},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    either.wait_for(*way)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    hold.set()
    assert child.returncode == 130, said
    assert "interrupted\n" in said
    assert set(either.contents(NAME)) == {".gitattributes"}
