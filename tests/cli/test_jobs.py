"""`merging jobs` from the outside: what is printed where, and exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from merging.jobs.jobs import Jobs
from merging.jobs.queue import Queue
from tests.command_line import Call, caller
from tests.jobs.places import break_models, many_tensors, over, recipe_of, root_at, until


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(capsys)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with root_at(tmp_path / "home") as found:
        yield found


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(many_tensors(tmp_path, count=3))
    return tmp_path / "recipe.yaml"


def test_a_job_is_submitted_listed_followed_and_forgotten(call: Call, jobs: Jobs, recipe: Path, tmp_path: Path) -> None:
    assert call("jobs").err == f"no jobs in {jobs.root}\n"
    submitted = call(
        "jobs", "submit", recipe, tmp_path / "out", "--name", "first one", "--memory", "1GiB", "--workers", 1
    )
    assert submitted.code == 0, submitted.err
    id = submitted.out.strip()
    followed = call("jobs", "show", id[-3:], "--follow")
    assert followed.code == 0, followed.err
    assert f"{id} is done" in followed.err
    listed = call("jobs")
    assert listed.out.splitlines()[0].split() == ["id", "state", "progress", "method", "out", "age", "name"]
    assert all(
        word in listed.out for word in (id, "done", "100%", "task_arithmetic", str(tmp_path / "out"), "first one")
    )
    assert json.loads(call("jobs", "--search", "nothing", "--json").out) == []
    [data] = json.loads(call("jobs", "--json").out)
    assert data["progress"]["tensors_done"] == 3 and data["error"] is None
    assert data["command"][-4:] == ["--memory", str(1 << 30), "--workers", "1"]
    shown = call("jobs", "show", id)
    assert "3 of 3 tensors" in shown.out
    assert call("jobs", "resume", id).code == 1
    assert call("jobs", "remove", id).code == 0
    gone = call("jobs", "show", id)
    assert gone.code == 1 and "there is no job" in gone.err


def test_the_exit_code_of_a_failed_job_is_one_and_its_error_is_shown(
    call: Call, jobs: Jobs, recipe: Path, tmp_path: Path
) -> None:
    turn = Queue(jobs.root).take_turn()
    assert turn is not None
    id = call("jobs", "submit", recipe, tmp_path / "out").out.strip()
    until(lambda: jobs.find(id).position == 1)
    assert "queued (1)" in call("jobs").out
    break_models(tmp_path)
    turn.close()
    assert over(jobs.find(id)) == "failed"
    followed = call("jobs", "show", id, "--follow")
    assert followed.code == 1 and "error: " in followed.err and "tuned" in followed.err
    events = [json.loads(line) for line in call("jobs", "show", id, "--follow", "--json").out.splitlines()]
    assert [event["event"] for event in events][-2:] == ["Failed", "Ended"]
    assert json.loads(call("jobs", "show", id, "--json").out)["error"]["kind"] == "CheckpointError"


def test_a_waiting_job_can_be_cancelled_and_what_is_refused_says_why(
    call: Call, jobs: Jobs, recipe: Path, tmp_path: Path
) -> None:
    turn = Queue(jobs.root).take_turn()
    assert turn is not None
    id = call("jobs", "submit", recipe, tmp_path / "out").out.strip()
    taken = call("jobs", "submit", recipe, tmp_path / "out")
    assert taken.code == 1 and id in taken.err
    assert call("jobs", "cancel", id).code == 0
    assert over(jobs.find(id)) == "cancelled"
    again = call("jobs", "cancel", id)
    assert again.code == 1 and "cancelled already" in again.err
    assert call("jobs", "show", id, "--follow").code == 130
    turn.close()


def test_run_with_a_folder_keeps_books_and_prints_as_ever(call: Call, recipe: Path, tmp_path: Path) -> None:
    plain = call("run", recipe, tmp_path / "plain", "--json-events")
    ran = call("run", recipe, tmp_path / "out", "--json-events", "--job", tmp_path / "home" / "by-hand")
    assert ran.code == 0, ran.err
    kinds = [[json.loads(line)["event"] for line in outcome.out.splitlines()] for outcome in (plain, ran)]
    assert kinds[0] == kinds[1]
    [job] = Jobs(tmp_path / "home").all()
    assert (job.id, job.state, job.progress.tensors_done) == ("by-hand", "done", 3)
    again = call("run", recipe, tmp_path / "out", "--job", job.folder)
    assert again.code == 1 and "is done" in again.err and job.state == "done"
    other = call("run", recipe, tmp_path / "other", "--job", job.folder)
    assert other.code == 1 and "another job" in other.err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    assert call("run", recipe, tmp_path / "third", "--job", tmp_path / "full").code == 1


def test_two_merges_are_compared_by_settings_and_tensors(call: Call, recipe: Path, tmp_path: Path) -> None:
    gentler = tmp_path / "gentler.yaml"
    gentler.write_text(recipe_of(tmp_path / "base", tmp_path / "tuned").replace("0.5", "0.25"))
    for file, out in ((recipe, "left"), (gentler, "right")):
        assert call("run", file, tmp_path / out, "-q").code == 0
    compared = call("jobs", "compare", tmp_path / "left", tmp_path / "right")
    assert compared.code == 0, compared.err
    assert "parameters.weight: 0.5 | 0.25" in compared.out and "3 tensors, 0 of them" in compared.out
    read = json.loads(call("jobs", "compare", tmp_path / "left", tmp_path / "right", "--tensors", "--json").out)
    first = next(row for row in read["tensors"] if row["tensor"] == "layer.0.weight")
    assert first["distance"] == pytest.approx(0.5) and not first["same"]
    assert call("jobs", "compare", tmp_path / "left", tmp_path / "left").out.splitlines() == [
        "the recipes ask for the same",
        "3 tensors, 3 of them with the same bytes",
    ]
