"""The page of jobs: every state, the list, what the buttons do; on folders written by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from merging import Jobs
from tests.jobs.places import many_tensors, over, root_at
from tests.ui.job_pages import HALF, UI, by_hand, labels, page_of, points, records, texts
from ui.jobs.result import wrote_later
from ui.jobs.status import progress_says


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with root_at(tmp_path / "home") as found:
        yield found


def test_without_a_job_the_page_says_how_to_make_one(jobs: Jobs) -> None:
    assert not jobs.all()
    page = page_of()
    assert "No job yet" in texts(page) and "merging jobs submit" in texts(page)
    assert not page.dataframe


def test_an_address_of_no_job_is_refused_with_the_nearest(jobs: Jobs) -> None:
    by_hand(jobs, "done")
    page = AppTest.from_file(str(UI / "views" / "jobs.py"), default_timeout=120)
    page.query_params["job"] = "20261125-120000-abd"
    page.run()
    assert "there is no job" in texts(page) and "20261125-120000-abc" in texts(page)
    assert len(page.dataframe) == 1 and "Remove" not in labels(page)


def test_a_running_job_shows_how_far_it_is_and_can_be_stopped(jobs: Jobs) -> None:
    job = by_hand(jobs, "running", name="my <b>*merge*</b>", started=time.time() - 10, progress=HALF)
    page = page_of(job)
    assert page.subheader[0].value == r"my \<b\>\*merge\*\</b\>"
    assert progress_says(job) == "merging · 300 of 800 tensors · 1 of 2 GB written · 500 MB/s · about 10 s left"
    [bar] = page.get("progress")
    assert bar.proto.value == 50
    assert "Resume" not in labels(page) and "Remove" not in labels(page)
    page.button(key="jobs_cancel").click().run()
    assert (job.folder / "cancel").exists()
    stopping = page.button(key="jobs_cancel")
    assert stopping.label == "Stopping" and stopping.disabled


def test_a_job_in_the_line_says_its_place(jobs: Jobs) -> None:
    for i, id in enumerate(("20261125-120000-aaa", "20261125-120001-bbb", "20261125-120002-ccc")):
        job = by_hand(jobs, "running" if i == 0 else "waiting", id)
        line = jobs.root / ".queue" / "line"
        line.mkdir(parents=True, exist_ok=True)
        (line / f"{job.number:012}-{id}").touch()
    page = page_of(job)
    assert "number 2 in the line" in progress_says(job)
    shown = [(row["state"][0], row["shown"]) for row in records(page, 0)]
    assert [state for state, _ in shown] == ["○ queued, 2", "○ queued, 1", "▶ running"]
    assert [bool(mark) for _, mark in shown] == [True, False, False]
    assert "3 jobs · 1 running · 2 queued" in texts(page)


def test_a_failed_job_shows_its_whole_error_and_what_it_printed(jobs: Jobs) -> None:
    problems = [
        {
            "kind": "RecipeError",
            "what": "no `weight`",
            "where": "recipe.yaml:3",
            "must_be": "a number",
            "fix": "name one",
        },
        {"kind": "MatchError", "what": "shapes differ"},
    ]
    job = by_hand(jobs, "failed", error={"kind": "Problems", "problems": problems}, progress=HALF)
    (job.folder / "log.txt").write_text("what the worker said")
    page = page_of(job)
    says = texts(page)
    for part in ("no `weight`", "recipe.yaml:3", "Must be: a number", "Mend it: name one", "shapes differ"):
        assert part in says
    assert "what the worker said" in says and f"merging jobs resume {job.id}" in says
    assert {"Resume", "Run again", "Remove"} <= set(labels(page)) and "Cancel" not in labels(page)


def test_a_lost_job_says_so_and_a_refused_resume_leaves_the_page(jobs: Jobs) -> None:
    job = by_hand(jobs, "lost", progress=HALF)
    page = page_of(job)
    assert "the process of this job is gone" in texts(page) and "Stopped at 50 %" in texts(page)
    data = json.loads((job.folder / "job.json").read_text())
    (job.folder / "job.json").write_text(json.dumps(data | {"command": []}))
    page.button(key="jobs_resume").click().run()
    assert "cannot be read" in texts(page) and "Resume" in labels(page) and len(page.dataframe) == 1


def test_a_cancelled_merge_is_resumed_from_the_page(jobs: Jobs, tmp_path: Path) -> None:
    job = jobs.submit(many_tensors(tmp_path, count=3), tmp_path / "out")
    job.cancel()
    assert over(job) == "cancelled"
    page = page_of(job)
    page.button(key="jobs_resume").click().run()
    assert not page.exception and job.state != "cancelled"
    assert over(job) == "done", job.log()
    page.run()
    assert "Resume" not in labels(page) and not page.get("progress")


def test_jobs_are_searched_and_filtered_by_state(jobs: Jobs) -> None:
    by_hand(jobs, "done", "20261125-120000-aaa", name="spring soup")
    by_hand(jobs, "failed", "20261125-120001-bbb", name="autumn soup", error={"what": "no"})
    page = page_of()
    assert [row["id"][-3:] for row in records(page, 0)] == ["bbb", "aaa"]
    page.text_input(key="jobs_search").input("SPRING linear").run()
    assert [row["name"] for row in records(page, 0)] == ["spring soup"]
    page.text_input(key="jobs_search").input("winter").run()
    assert "No job is like that" in texts(page)
    page.text_input(key="jobs_search").input("").run()
    page.button_group(key="jobs_states").set_value(["failed"]).run()
    assert [row["name"] for row in records(page, 0)] == ["autumn soup"]


def test_an_output_that_is_gone_is_told(jobs: Jobs) -> None:
    job = by_hand(jobs, "done")
    assert "There is no file" in texts(page_of(job, "Result"))
    page = page_of(job, "What every tensor got")
    assert "there is no ledger" in texts(page) and page.button(key="jobs_browse").disabled


def test_removing_asks_first_and_leaves_the_output(jobs: Jobs) -> None:
    kept, job = by_hand(jobs, "done"), by_hand(jobs, "done", "20261125-120001-xyz")
    job.out.mkdir(parents=True)
    out = job.out.rename(jobs.root.parent / "out")
    data = json.loads((job.folder / "job.json").read_text())
    (job.folder / "job.json").write_text(json.dumps(data | {"out": str(out)}))
    page = page_of(job)
    assert str(out) in texts(page)
    page.button(key="jobs_remove_surely").click().run()
    assert [each.id for each in jobs.all()] == [kept.id] and "job" not in page.query_params
    assert out.is_dir() and kept.id in texts(page)


def test_a_sweep_shows_its_points_as_a_table_and_a_heat_map(jobs: Jobs) -> None:
    job = by_hand(jobs, "done", kind="sweep", progress={"tensors": 4, "tensors_done": 4})
    (job.folder / "points.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points()))
    page = page_of(job)
    assert [row["point"] for row in records(page, 1)] == [2, 1, 0, 3]
    assert "4 of 4 points" in texts(page) and page.get("vega_lite_chart")
    page.selectbox(key="jobs_task").select("x").run()
    assert not page.exception


def test_a_folder_that_was_written_again_is_told(jobs: Jobs) -> None:
    first, second = (by_hand(jobs, "done", f"20261125-12000{i}-abc", started=1.0, ended=2.0) for i in range(2))
    data = json.loads((second.folder / "job.json").read_text())
    (second.folder / "job.json").write_text(json.dumps(data | {"out": str(first.out)}))
    found = jobs.all()
    assert [job.id for job in wrote_later(first, found)] == [second.id] and not wrote_later(found[0], found)
