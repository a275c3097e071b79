"""The page of jobs on real merges that are done: files, ledger, events, comparison, and the ways to other pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from streamlit.testing.v1 import AppTest

from merging import Job
from tests import tiny
from tests.jobs.places import over, recipe_of, root_at
from tests.ui.job_pages import UI, labels, page_of, records, texts


class Finished(NamedTuple):
    """Three merges that are done: the last one is the first one again."""

    folder: Path
    soup: Job
    heavier: Job
    twin: Job


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("finished")
    recipe = recipe_of((made := tiny.family(folder / "models", models=2)).base, *made.tuned)
    with root_at(folder / "home") as jobs:
        soup = jobs.submit(recipe, folder / "soup", name="soup")
        heavier = jobs.submit(recipe.replace("0.5", "0.6"), folder / "heavier")
        twin = jobs.submit(recipe, folder / "twin")
        assert [over(job) for job in (soup, heavier, twin)] == ["done"] * 3
        yield Finished(folder, soup, heavier, twin)


def test_a_finished_merge_shows_its_files(finished: Finished) -> None:
    page = page_of(finished.soup, "Result")
    files = {row["file"]: row["size"] for row in records(page, 1)}
    assert files["model.safetensors"] == (finished.folder / "soup" / "model.safetensors").stat().st_size
    assert str(finished.folder / "soup") in texts(page) and "merging verify" in texts(page)


def test_a_finished_merge_shows_what_every_tensor_got(finished: Finished) -> None:
    page = page_of(finished.soup, "What every tensor got")
    rows = records(page, 1)
    assert len(rows) == len(finished.soup.ledger()) and page.get("vega_lite_chart")
    row = next(row for row in rows if row["tensor"] == "model.layers.0.mlp.up_proj.weight")
    assert row["rule"] == "merge" and row["merged norm"] > 0
    assert row["share · tuned-1"] + row["share · tuned-2"] == pytest.approx(1.0)
    page.text_input(key="jobs_tensor").input("LAYERS.1.MLP").run()
    assert {row["layer"] for row in records(page, 1)} == {1}


def test_a_finished_merge_shows_its_events_the_last_first(finished: Finished) -> None:
    events = [row["event"] for row in records(page_of(finished.soup, "Events"), 1)]
    assert events[0] == "Ended" and "Sealed" in events and events[-1] == "Started"


def test_two_merges_are_compared_by_settings_and_by_tensors(finished: Finished) -> None:
    page = page_of(finished.soup, "Compare")
    page.selectbox(key="jobs_other").select(finished.heavier.id).run()
    settings = records(page, 1)
    assert {row["setting"].rpartition(".")[2] for row in settings} == {"weight"}
    assert {(row["this job"], row["the other"]) for row in settings} == {("0.5", "0.6")}
    assert set(records(page, 2)[0]) >= {"merged norm here", "merged norm there"}
    page.button(key="jobs_measure").click().run()
    rows = records(page, 2)
    assert len(rows) == len(finished.soup.ledger()) and "Measure distances" not in labels(page)
    distances = [row["distance"] for row in rows]
    assert distances == sorted(distances, reverse=True) and distances[0] > 0


def test_a_merge_made_twice_is_the_same_and_offered_first(finished: Finished) -> None:
    page = page_of(finished.soup, "Compare")
    assert page.selectbox(key="jobs_other").value == finished.twin.id
    assert "Both recipes ask for the same" in texts(page)
    assert "tensors have the same bytes" in page.success[0].value


def in_the_workbench(job: Job, button: str) -> AppTest:
    """The page that a button of the Jobs page leads to."""
    app = AppTest.from_file(str(UI / "app.py"), default_timeout=120).run()
    app.query_params["job"] = job.id
    app.switch_page("views/jobs.py").run()
    app.button(key=button).click().run()
    assert not app.exception
    return app


def test_run_again_hands_recipe_and_a_new_folder_to_compose(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERGING_UI_ROOTS", str(finished.folder))
    app = in_the_workbench(finished.soup, "jobs_again")
    assert app.title[0].value == "Compose" and app.text_area(key="compose_text").value == finished.soup.recipe
    assert app.text_input(key="compose_out_folder").value == str(finished.folder / "soup-2")


def test_browse_is_handed_the_output(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGING_UI_ROOTS", str(finished.folder))
    app = in_the_workbench(finished.soup, "jobs_browse")
    assert app.title[0].value == "Browse"
    assert app.selectbox(key="browse_source").value == str(finished.folder / "soup")


def test_an_output_outside_the_roots_is_not_opened(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERGING_UI_ROOTS", str(tmp_path))
    button = page_of(finished.soup).button(key="jobs_browse")
    assert button.disabled and "outside" in button.help


def test_what_is_shown_survives_a_visit_to_another_page(finished: Finished) -> None:
    app = AppTest.from_file(str(UI / "app.py"), default_timeout=120).run()
    app.query_params["job"] = finished.heavier.id
    app.switch_page("views/jobs.py").run()
    app.switch_page("views/browse.py").run()
    app.query_params.clear()
    app.switch_page("views/jobs.py").run()
    assert finished.heavier.id in texts(app)
