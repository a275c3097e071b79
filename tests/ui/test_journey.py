"""One person's way through the workbench: explore, drag, grid, compose, run, reload, cancel, resume, compare."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from merging.jobs.jobs import Jobs
from merging.jobs.state import read_state
from tests.jobs.places import until
from tests.ui.browser import PATIENCE, at, press, settled, visited
from tests.ui.conftest import Workbench

pytestmark = pytest.mark.slow

# Enough work to be met in the middle of it.
SIDE, LAYERS = 4096, 6


@pytest.fixture
def page(workbench: Workbench, chromium) -> Iterator[Any]:
    with visited(chromium, workbench.address, 1000) as page:
        yield page


def go(page: Any, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).click()
    page.get_by_role("heading", name=name, exact=True).wait_for()
    settled(page)


def metric(page: Any, label: str) -> str:
    return str(page.locator('[data-testid="stMetric"]', has_text=label).first.inner_text())


def submit(page: Any, recipe: str, out: Path) -> str:
    """Compose and start a merge; the id of its job."""
    go(page, "Compose")
    text = page.get_by_role("textbox", name="Recipe")
    text.fill(recipe)
    text.press("Control+Enter")
    settled(page)
    folder = page.get_by_label("Output folder", exact=True)
    folder.fill(str(out))
    folder.press("Enter")
    settled(page)
    # Not pressed: the page that follows moves as long as the merge runs.
    at(page, "compose_start").get_by_role("button").first.click()
    page.get_by_role("heading", name="Jobs", exact=True).wait_for()
    page.wait_for_url(re.compile(r"job="))
    return str(re.search(r"job=([\w-]+)", page.url)[1])  # type: ignore[index]


@contextmanager
def halted(workbench: Workbench, job: str, out: Path) -> Iterator[None]:
    """The job's merge held in the middle, so that it cannot be over before a person has clicked."""
    folder = workbench.home / "jobs" / job
    until(lambda: any(out.glob("*.partial")))
    held = read_state(folder)
    assert held is not None and held.pid is not None
    os.kill(held.pid, signal.SIGSTOP)
    try:
        assert not (out / "merging.json").exists()
        yield
    finally:
        os.kill(held.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def large(workbench: Workbench) -> str:
    """A recipe over models that take seconds to merge."""
    generator = torch.Generator().manual_seed(0)
    for name in ("base", "one", "two"):
        folder = workbench.folder / name
        folder.mkdir()
        block = torch.randn(SIDE, SIDE, generator=generator).bfloat16()
        save_file({f"layer.{i}.weight": block.roll(i, 0).contiguous() for i in range(LAYERS)}, folder / "m.safetensors")
    models = "".join(f"- model: {workbench.folder / name}\n" for name in ("one", "two"))
    return (
        f"merge_method: ties\nbase_model: {workbench.folder / 'base'}\nmodels:\n{models}parameters: {{density: 0.3}}\n"
    )


def test_dragging_a_weight_moves_the_merge_and_its_score(page) -> None:
    before = metric(page, "Norm"), metric(page, "Mean score")
    thumb = page.get_by_role("slider").nth(1)
    thumb.focus()
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "before => ![...document.querySelectorAll('[data-testid=stMetric]')].some(each => each.innerText === before)",
        arg=before[0],
    )
    settled(page)
    assert metric(page, "Norm") != before[0]
    assert metric(page, "Mean score") != before[1]


def test_a_grid_is_scored_in_the_background_and_drawn(page) -> None:
    # The page is not still before the last point is in.
    at(page, "explore_grid_start").get_by_role("button").first.click()
    at(page, "explore_heat_chart").locator("canvas, svg").first.wait_for()
    page.get_by_text("Pareto").first.wait_for()


def test_what_was_explored_is_composed_run_and_looked_into(page, workbench: Workbench) -> None:
    press(page, "explore_compose")
    page.get_by_role("heading", name="Compose", exact=True).wait_for()
    settled(page)
    assert "merge_method: task_arithmetic" in page.get_by_role("textbox", name="Recipe").input_value()
    submit(page, page.get_by_role("textbox", name="Recipe").input_value(), workbench.folder / "explored")
    at(page, "jobs_browse").wait_for()
    assert (workbench.folder / "explored" / "merging.json").is_file()
    press(page, "jobs_browse")
    page.get_by_role("heading", name="Browse", exact=True).wait_for()
    settled(page)
    assert "72" in metric(page, "Tensors")


def test_a_running_merge_survives_a_reload_and_goes_on_after_a_cancel(page, workbench: Workbench, large: str) -> None:
    job = submit(page, large, workbench.folder / "large")
    with halted(workbench, job, workbench.folder / "large"):
        at(page, "jobs_cancel").wait_for()
        page.reload()
        at(page, "jobs_cancel").wait_for()
        assert job in page.url
        at(page, "jobs_cancel").get_by_role("button").first.click()
        until(lambda: Jobs(workbench.home / "jobs").find(job).is_stopping)
    at(page, "jobs_resume").wait_for()
    assert not (workbench.folder / "large" / "merging.json").exists()
    at(page, "jobs_resume").get_by_role("button").first.click()
    at(page, "jobs_browse").wait_for()
    assert (workbench.folder / "large" / "merging.json").is_file()


def test_a_second_tab_sees_the_same_job(page, workbench: Workbench, chromium, large: str) -> None:
    job = submit(page, large.replace("0.3", "0.4"), workbench.folder / "again")
    other = chromium.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(f"{workbench.address}/jobs?job={job}")
    at(other, "jobs_browse").wait_for()
    at(page, "jobs_browse").wait_for()
    other.close()


def test_two_recipes_of_the_history_are_compared(page) -> None:
    go(page, "Jobs")
    page.get_by_role("tab", name="Compare").click()
    settled(page)
    # Tables are drawn on a canvas; their cells are in the page for screen readers alone.
    page.get_by_text("parameters.density").first.wait_for(state="attached")


@pytest.mark.parametrize("name", ["Diagnose", "Browse", "Compose", "Jobs"])
def test_every_page_opens_without_a_complaint(page, name: str) -> None:
    go(page, name)
    assert page.locator('[data-testid="stException"]').count() == 0
