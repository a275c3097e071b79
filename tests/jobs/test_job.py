"""Jobs as processes: handed in, watched, killed, stopped, taken up again; on tiny checkpoints."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from merging.engine.merge import merge
from merging.errors import MergingError, OutputError
from merging.jobs.job import Job
from merging.jobs.jobs import Jobs
from merging.jobs.queue import Queue
from merging.jobs.state import read_state
from tests.jobs.places import TOKEN, break_models, contents, many_tensors, over, root_at, until
from tests.syntax import ROOT


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    return many_tensors(tmp_path_factory.mktemp("large"))


@pytest.fixture(scope="module")
def expected(large: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("expected") / "out"
    merge(large, out)
    return contents(out)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with root_at(tmp_path / "home") as found:
        yield found


def caught_in_the_middle(job: Job) -> int:
    """The worker's process, stopped after some tensors and before the last."""
    until(lambda: job.ledger() or job.state == "done")
    held = read_state(job.folder)
    assert held is not None and held.pid is not None
    os.kill(held.pid, signal.SIGSTOP)
    assert not (job.out / "merging.json").exists(), "the merge was over before it could be stopped"
    return held.pid


def test_a_killed_worker_is_lost_and_resumes_to_the_same_bytes(
    jobs: Jobs, large: str, expected: dict[str, bytes], tmp_path: Path
) -> None:
    job = jobs.submit(large, tmp_path / "out", name="first")
    pid = caught_in_the_middle(job)
    assert job.state == "running"
    os.kill(pid, signal.SIGKILL)
    until(lambda: job.state == "lost")
    error = job.error
    assert error is not None and f"merging jobs resume {job.id}" in str(error)
    assert job.resume().id == job.id
    assert over(job) == "done", job.log()
    assert contents(tmp_path / "out") == expected
    assert any(event.get("kept_tensors") for event in job.events() if event["event"] == "RunStarted")
    assert (job.progress.share, job.progress.tensors_done, job.progress.seconds_left) == (1.0, 600, None)
    assert len(job.ledger()) == 600


def test_a_merge_that_is_cancelled_in_the_middle_resumes_to_the_same_bytes(
    jobs: Jobs, large: str, expected: dict[str, bytes], tmp_path: Path
) -> None:
    job = jobs.submit(large, tmp_path / "out")
    pid = caught_in_the_middle(job)
    job.cancel()
    os.kill(pid, signal.SIGCONT)
    assert over(job) == "cancelled", job.log()
    assert job.error is None and not (tmp_path / "out" / "merging.json").exists()
    job.resume()
    assert over(job) == "done", job.log()
    assert contents(tmp_path / "out") == expected


def test_jobs_run_one_after_the_other_in_the_order_in_which_they_came(jobs: Jobs, tmp_path: Path) -> None:
    recipe = many_tensors(tmp_path, count=3)
    turn = Queue(jobs.root).take_turn()
    assert turn is not None
    first, second, third = (jobs.submit(recipe, tmp_path / f"out-{i}") for i in range(3))
    until(lambda: [job.position for job in (first, second, third)] == [1, 2, 3])
    second.cancel()
    assert over(second) == "cancelled"
    until(lambda: third.position == 2)
    assert {first.state, third.state} == {"queued"} and not (tmp_path / "out-0").exists()
    break_models(tmp_path)
    turn.close()
    assert (over(third), first.state) == ("failed", "failed")
    assert first.ended is not None and third.started is not None and first.ended <= third.started
    assert [job.id for job in jobs.all()] == [third.id, second.id, first.id]


def test_a_worker_outlives_a_submitter_that_is_killed_and_no_file_holds_a_token(jobs: Jobs, tmp_path: Path) -> None:
    recipe = many_tensors(tmp_path, count=3)
    script = (
        "import os, signal\nfrom merging.jobs.jobs import Jobs\n"
        f"Jobs().submit({recipe!r}, {str(tmp_path / 'out')!r})\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    turn = Queue(jobs.root).take_turn()
    assert turn is not None
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert ran.returncode == -signal.SIGKILL
    turn.close()
    [job] = jobs.all()
    assert over(job) == "done", job.log()
    until(lambda: not Queue(jobs.root).line())
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]


def test_a_job_whose_input_breaks_after_it_was_handed_in_fails_with_the_error(jobs: Jobs, tmp_path: Path) -> None:
    recipe = many_tensors(tmp_path, count=3)
    turn = Queue(jobs.root).take_turn()
    assert turn is not None
    job = jobs.submit(recipe, tmp_path / "out")
    break_models(tmp_path)
    turn.close()
    assert over(job) == "failed"
    assert job.error is not None and "tuned" in str(job.error)
    assert type(job.error).__name__ == "CheckpointError"
    # The state is written before the process says its last words.
    until(lambda: "no safetensors file" in job.log())
    assert "Traceback" not in job.log()


def test_what_could_not_work_is_refused_before_anything_is_written(jobs: Jobs, tmp_path: Path) -> None:
    recipe = many_tensors(tmp_path, count=3)
    with pytest.raises(MergingError) as refused:
        jobs.submit(recipe.replace("tuned", "turned").replace("0.5", "yes please"), tmp_path / "out")
    assert "turned" in str(refused.value) and "weight" in str(refused.value)
    with pytest.raises(MergingError, match="--memory"):
        jobs.submit(recipe, tmp_path / "out", options=["--memory", "much"])
    with pytest.raises(MergingError, match="access token"):
        jobs.submit(recipe + f"# {TOKEN}\n", tmp_path / "out")
    assert not jobs.root.exists()


def test_two_jobs_may_not_write_to_one_folder(jobs: Jobs, tmp_path: Path) -> None:
    recipe = many_tensors(tmp_path, count=3)
    turn = Queue(jobs.root).take_turn()
    assert turn is not None
    first = jobs.submit(recipe, tmp_path / "out")
    with pytest.raises(OutputError, match=first.id):
        jobs.submit(recipe, tmp_path / "out")
    first.cancel()
    assert over(first) == "cancelled"
    turn.close()


def test_a_finished_merge_is_forgotten_and_its_output_stays(jobs: Jobs, tmp_path: Path) -> None:
    recipe = many_tensors(tmp_path, count=3)
    turn = Queue(jobs.root).take_turn()
    assert turn is not None
    job = jobs.submit(recipe, tmp_path / "out", name="soup of three")
    for refused in (job.resume, lambda: jobs.remove(job.id)):
        with pytest.raises(OutputError, match="queued"):
            refused()
    turn.close()
    assert over(job) == "done"
    with pytest.raises(OutputError, match="done already"):
        job.cancel()
    assert job.again() == (recipe, tmp_path / "out-2")
    assert [found.id for found in jobs.search("three TASK_arithmetic")] == [job.id] and not jobs.search("four")
    assert jobs.find(job.id[-3:]) == jobs.find(job.id[:8]) == job
    jobs.remove(job.id)
    assert jobs.all() == [] and (tmp_path / "out" / "merging.json").exists()
    with pytest.raises(OutputError, match="no job"):
        jobs.find(job.id)


@pytest.mark.slow
def test_two_submitters_at_once_get_a_place_each(jobs: Jobs, tmp_path: Path) -> None:
    recipe = many_tensors(tmp_path, count=3)
    script = "import sys\nfrom merging.jobs.jobs import Jobs\nprint(Jobs().submit(sys.argv[1], sys.argv[2]).id)\n"
    children = [
        subprocess.Popen([sys.executable, "-c", script, recipe, str(tmp_path / f"out-{i}")], cwd=ROOT) for i in range(4)
    ]
    assert [child.wait() for child in children] == [0] * 4
    found = jobs.all()
    assert sorted(job.number for job in found) == [1, 2, 3, 4]
    assert {over(job) for job in found} == {"done"}
    spans = sorted((job.started, job.ended) for job in found if job.started and job.ended)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_a_folder_that_is_removed_by_hand_leaves_the_line_to_others(jobs: Jobs, tmp_path: Path) -> None:
    recipe = many_tensors(tmp_path, count=3)
    turn = Queue(jobs.root).take_turn()
    assert turn is not None
    first, second = (jobs.submit(recipe, tmp_path / f"out-{i}") for i in range(2))
    until(lambda: (first.position, second.position) == (1, 2) and read_state(first.folder).pid)
    shutil.rmtree(first.folder)
    until(lambda: second.position == 1)
    assert first.state == "lost" and [job.id for job in jobs.all()] == [second.id]
    break_models(tmp_path)
    turn.close()
    assert over(second) == "failed"


def test_times_are_of_the_machine_and_in_utc(jobs: Jobs, tmp_path: Path) -> None:
    turn = Queue(jobs.root).take_turn()
    assert turn is not None
    job = jobs.submit(many_tensors(tmp_path, count=3), tmp_path / "out")
    assert abs(job.created.timestamp() - time.time()) < 60
    assert job.created.utcoffset() is not None and job.id.startswith(f"{job.created:%Y%m%d-%H%M}")
    job.cancel()
    assert over(job) == "cancelled"
    assert job.ended is not None and job.ended >= job.created and job.started is None
    turn.close()


def test_a_job_that_was_asked_to_stop_is_stopping_until_it_is_over(jobs: Jobs, large: str, tmp_path: Path) -> None:
    job = jobs.submit(large, tmp_path / "out")
    pid = caught_in_the_middle(job)
    assert not job.is_stopping
    job.cancel()
    assert job.state == "running" and job.is_stopping
    os.kill(pid, signal.SIGCONT)
    assert over(job) == "cancelled"
    assert not job.is_stopping


def test_a_sweep_is_run_again_with_its_grid_and_its_score(jobs: Jobs, large: str, tmp_path: Path) -> None:
    script = tmp_path / "score.py"
    script.write_text("import sys; print(len(sys.argv))\n")
    score = f"{sys.executable} {script} {{folder}}"
    first = jobs.submit_sweep(large, {"lambda": [0.5, 1.0], "weight[0]": [1]}, score=score, name="grid")
    again = jobs.sweep_again(first.id)
    assert over(first) == over(again) == "done", again.log()
    assert (again.kind, again.name, again.recipe) == ("sweep", "grid", first.recipe)
    assert again.folder != first.folder and str(first.folder) not in again.command
    assert [row["values"] for row in again.points()] == [row["values"] for row in first.points()]
    assert len(again.points()) == 2 and all(row["scores"] for row in again.points())
    third = jobs.sweep_again(again.id, name="third")
    assert third.name == "third"


def test_what_is_no_sweep_or_would_not_work_any_more_is_not_run_again(jobs: Jobs, tmp_path: Path) -> None:
    recipe = many_tensors(tmp_path / "models", 4)
    job = jobs.submit(recipe, tmp_path / "out")
    with pytest.raises(OutputError, match="holds no sweep"):
        jobs.sweep_again(job.id)
    sweep = jobs.submit_sweep(recipe, {"lambda": [0.5]}, score="python score.py {folder}")
    over(sweep)
    shutil.rmtree(tmp_path / "models" / "tuned")
    with pytest.raises(MergingError, match="tuned"):
        jobs.sweep_again(sweep.id)
    assert len(jobs.all()) == 2


def test_a_merge_to_the_hub_says_where_it_goes_and_whether_its_weights_stay(jobs: Jobs, tmp_path: Path) -> None:
    recipe = many_tensors(tmp_path / "models", 4)
    words = ["--push", "ada/x@next"]
    sent = jobs.submit(recipe, tmp_path / "a", options=words, token="hf_" + "another0123456789abcdef")
    kept = jobs.submit(recipe, tmp_path / "b", options=[*words, "--keep-weights"])
    local = jobs.submit(recipe, tmp_path / "c")
    assert [job.repository for job in (sent, kept, local)] == ["ada/x@next", "ada/x@next", ""]
    assert [job.keeps_weights for job in (sent, kept, local)] == [False, True, True]
    secret = "not-like-a-token-but-secret"
    with pytest.raises(MergingError, match="holds an access token"):
        jobs.submit(recipe, tmp_path / "d", name=secret, token=secret)
