"""A recipe merged straight to the Hub from the Compose page: shown whole first, then one job that sends its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from merging import Jobs, find_zoo
from merging.planning import check
from tests.hub.server import HubServer
from tests.jobs.places import over
from tests.remote import cache, server
from tests.ui.browser import PATIENCE, at, press, settled
from tests.ui.conftest import Workbench, started, stop_content
from tests.ui.hub_pages import RECIPE, answered, compose, hub, jobs
from tests.ui.job_pages import texts
from ui.publishing import Wish, suggested

__all__ = ["cache", "hub", "jobs", "server"]


def test_a_wish_is_spelled_for_a_push_and_for_a_run() -> None:
    wish = Wish("ada/x", "next", private=False, replace=True, message="Mine")
    assert wish.options() == ["--branch", "next", "--public", "--replace", "--message", "Mine"]
    assert wish.run_options() == ["--push", "ada/x", "--push-branch", "next", "--push-public"]
    assert Wish("ada/x", pull_request=True).run_options() == ["--push", "ada/x", "--push-pr"]
    assert [Wish("").is_whole, Wish("ada/x", "").is_whole, Wish("ada/x").is_whole] == [False, False, True]
    assert suggested("ada", Path("/a b/merged (2)")) == "ada/merged-2"


def test_a_merge_is_shown_before_it_is_sent_and_then_sends_its_weights(hub: HubServer) -> None:
    page = compose()
    answered(page.button(key="compose_hub_start").click().run())
    page.text_input(key="publish_repository").set_value("tester/straight")
    answered(page.run())
    assert r"**tester/straight**, a new private repository" in texts(page)
    assert "Weights: one file, 1.08 MB, as tester" in texts(page)
    assert "mit and apache-2.0" in texts(page)
    assert any("--push tester/straight" in each.value for each in page.code)
    assert not [path for path in (request.path for request in hub.requests) if "repos/create" in path]
    page.button(key="publish_start").click().run()
    (job,) = Jobs().all()
    assert over(job) == "done"
    assert (job.kind, job.repository, job.keeps_weights) == ("merge", "tester/straight", False)
    assert "model.safetensors" in hub.contents("tester/straight")
    assert not (job.out / "model.safetensors").exists()
    assert job.published and job.published["commit"] == hub.head("tester/straight")


def test_a_disk_too_small_for_the_weights_is_no_hindrance(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = find_zoo()
    recipe = f"merge_method: linear\nmodels: [{{model: {zoo.base}}}, {{model: {zoo.fine_tunes['rotated']}}}]\n"
    monkeypatch.setattr(check, "_free_bytes", lambda _: check.EXTRA_BYTES)
    page = compose(recipe)
    assert page.button(key="compose_start").disabled
    answered(page.button(key="compose_hub_start").click().run())
    page.text_input(key="publish_repository").set_value("tester/roomless")
    answered(page.run())
    page.button(key="publish_start").click().run()
    (job,) = Jobs().all()
    assert over(job) == "done"
    assert "model.safetensors" in hub.contents("tester/roomless")


def test_what_is_in_the_way_is_told_and_nothing_can_be_sent(hub: HubServer) -> None:
    hub.add("tester/taken", {"pytorch_model.bin": b"theirs"})
    page = compose()
    answered(page.button(key="compose_hub_start").click().run())
    page.text_input(key="publish_repository").set_value("tester/taken")
    answered(page.run())
    assert "weights of another model" in texts(page)
    assert page.button(key="publish_start").disabled


def test_weights_can_stay_here_as_well(hub: HubServer) -> None:  # noqa: ARG001
    page = compose()
    answered(page.button(key="compose_hub_start").click().run())
    page.radio(key="publish_way").set_value("here as well")
    page.segmented_control(key="publish_where").set_value("a pull request")
    answered(page.run())
    assert any("--push-pr --keep-weights" in each.value for each in page.code)


@pytest.fixture
def bench(hub: HubServer, tmp_path: Path) -> Iterator[Workbench]:  # noqa: ARG001
    (tmp_path / "bench").mkdir()
    found = started(tmp_path / "bench")
    yield found
    stop_content(found)


def test_a_person_sends_a_merge_and_follows_the_link(bench: Workbench, hub: HubServer, chromium: Any) -> None:
    page = chromium.new_page(viewport={"width": 1440, "height": 1200})
    page.set_default_timeout(PATIENCE)
    page.goto(f"{bench.address}/compose")
    settled(page)
    box = at(page, "compose_text").locator("textarea")
    box.fill(RECIPE)
    box.press("Control+Enter")
    page.get_by_text("Ready: 72 tensors").wait_for()
    press(page, "compose_hub_start")
    page.get_by_text("a new private repository").wait_for()
    at(page, "publish_start").get_by_role("button").first.click()
    link = at(page, "jobs_url").get_by_role("link")
    link.wait_for()
    assert link.get_attribute("href") == f"{hub.endpoint}/tester/merged/commit/{hub.head('tester/merged')}"
    page.close()
