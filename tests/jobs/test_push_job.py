"""Publishing in a process of its own: the same command, watched, stopped and taken up again; no token is written."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import merging
from merging.errors import OutputError, RecipeError
from merging.jobs.job import Job
from merging.jobs.jobs import Jobs
from merging.jobs.state import read_state
from tests import tiny
from tests.hub.server import Fault, HubServer
from tests.jobs.places import over, recipe_of, root_at, until

NAME = "tester/merged"


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with root_at(tmp_path / "home") as found:
        yield found


@pytest.fixture
def hub(tmp_path: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:  # noqa: ARG001
    """A Hub that workers talk to; nobody is logged in there."""
    with HubServer(tmp_path) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("HF_TOKEN")
        yield server


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    for name, change in (("base", 0.0), ("tuned", 1.0)):
        tiny.write(tmp_path / name, {"layer.0.weight": torch.full((64, 64), change)}, {})
    merging.merge(recipe_of(tmp_path / "base", tmp_path / "tuned"), tmp_path / "merged")
    return tmp_path / "merged"


def written(job: Job, *more: Path) -> bytes:
    """All that a job has left behind, and what else is named."""
    files = [path for folder in (job.folder.parent, *more) for path in folder.rglob("*") if path.is_file()]
    return b"\n".join(path.read_bytes() for path in files)


def arguments(job: Job) -> bytes:
    """The command line of its worker as every user of the machine sees it."""
    held = read_state(job.folder)
    assert held is not None and held.pid is not None
    return Path(f"/proc/{held.pid}/cmdline").read_bytes()


def test_a_merge_is_published_and_the_job_tells_where(jobs: Jobs, hub: HubServer, merged: Path) -> None:
    job = jobs.submit_push(merged, NAME, message="A first try", token=hub.token)
    assert job.command[:4] == ("merging", "push", str(merged), NAME)
    assert (over(job), job.error) == ("done", None)
    there = hub.contents(NAME)
    assert there["model.safetensors"] == (merged / "model.safetensors").read_bytes()
    assert job.published is not None
    assert job.published["commit"] == hub.head(NAME)
    assert job.published["url"].startswith(hub.endpoint)
    assert (job.progress.share, job.progress.tensors_done) == (1.0, job.progress.tensors)
    assert [event["path"] for event in job.events() if event["event"] == "Sent"] == ["model.safetensors"]
    assert jobs.find(job.id) == job
    assert (job.kind, job.repository, job.recipe, job.ledger()) == ("push", NAME, "", [])


def test_the_token_reaches_the_worker_and_is_written_nowhere(jobs: Jobs, hub: HubServer, merged: Path) -> None:
    gate = threading.Event()
    hub.fail(Fault("PUT", hold=gate))
    job = jobs.submit_push(merged, NAME, token=hub.token)
    until(lambda: any(request.method == "PUT" for request in hub.requests))
    assert arguments(job) and hub.token.encode() not in arguments(job)
    gate.set()
    assert over(job) == "done"
    everything = written(job, merged)
    assert NAME.encode() in everything
    assert hub.token.encode() not in everything
    assert hub.token.encode() not in b"".join(hub.contents(NAME).values())
    assert not any(hub.token in request.path for request in hub.requests)


def test_a_refused_token_fails_the_job_and_is_written_nowhere(jobs: Jobs, hub: HubServer, merged: Path) -> None:
    job = jobs.submit_push(merged, NAME, token=hub.read_token)
    assert over(job) == "failed"
    assert "may only read" in str(job.error)
    wrong = jobs.submit_push(merged, NAME, token="hf_nobodyknowsthisone")
    assert over(wrong) == "failed"
    assert b"hf_nobodyknowsthisone" not in written(wrong) and hub.read_token.encode() not in written(wrong)


def test_a_stopped_push_shows_nothing_and_goes_on_with_the_token_given_again(
    jobs: Jobs, hub: HubServer, merged: Path
) -> None:
    gate = threading.Event()
    hub.fail(Fault("PUT", hold=gate))
    job = jobs.submit_push(merged, NAME, token=hub.token)
    until(lambda: any(request.method == "PUT" for request in hub.requests))
    job.cancel()
    assert over(job) == "cancelled"
    gate.set()
    assert "model.safetensors" not in hub.contents(NAME)
    assert job.published is None
    assert over(job.resume(token=hub.token)) == "done"
    assert hub.contents(NAME)["model.safetensors"] == (merged / "model.safetensors").read_bytes()


def test_what_would_be_written_down_is_searched_for_tokens(jobs: Jobs, hub: HubServer, merged: Path) -> None:
    with pytest.raises(RecipeError, match="holds an access token"):
        jobs.submit_push(merged, NAME, message=f"with {hub.token}")
    with pytest.raises(RecipeError, match="holds an access token"):
        jobs.submit_push(merged, NAME, message="with my-own-kind-of-token", token="my-own-kind-of-token")
    assert jobs.all() == []


def test_a_folder_without_a_finished_merge_is_refused_at_once(jobs: Jobs, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no record of a merge"):
        jobs.submit_push(tmp_path, NAME)
    assert jobs.all() == []


def test_every_wish_becomes_an_option_of_the_command(jobs: Jobs, hub: HubServer, merged: Path) -> None:
    first = jobs.submit_push(merged, NAME, token=hub.token)
    assert over(first) == "done"
    job = jobs.submit_push(merged, NAME, branch="try", parent=hub.head(NAME), private=False, replace=True, message="m")
    words = ("--branch", "try", "--public", "--parent", hub.head(NAME), "--replace", "--message", "m")
    assert job.command[6:] == words
    assert over(job) == "failed" and "no token" in str(job.error)
    assert over(job.resume(token=hub.token)) == "done"
    assert hub.contents(NAME, "try")["model.safetensors"] == hub.contents(NAME)["model.safetensors"]


def test_a_push_started_by_hand_is_a_job_and_its_folder_takes_no_other(
    jobs: Jobs, hub: HubServer, merged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    folder = jobs.root / "by-hand"

    def by_hand(repository: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "merging", "push", str(merged), repository, "--job", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert by_hand(NAME).returncode == 0
    (job,) = jobs.all()
    assert (job.kind, job.state, job.repository, job.out) == ("push", "done", NAME, merged)
    other = by_hand("tester/other")
    assert other.returncode != 0 and "folder of another job" in other.stderr
