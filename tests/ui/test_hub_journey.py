"""One person's way to the Hub and back, in a real browser: type a name, search, merge, look at the push, publish."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from merging import find_zoo
from tests.hub.server import HubServer
from tests.remote import folder_files
from tests.ui.browser import at, press, settled, visited
from tests.ui.conftest import Workbench, started, stop_content

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        zoo = find_zoo()
        server.add("ada/base", {**folder_files(zoo.base), "README.md": b"---\nlicense: apache-2.0\n---\n"})
        for name in ("rotated", "mirrored"):
            server.add(f"ada/{name}", {**folder_files(zoo.fine_tunes[name]), "README.md": b"---\nlicense: mit\n---\n"})
        yield server


@pytest.fixture(scope="module")
def bench(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in hub.environment().items():
            patched.setenv(name, value)
        running = started(tmp_path_factory.mktemp("bench"))
    yield running
    stop_content(running)


@pytest.fixture
def page(bench: Workbench, chromium) -> Iterator[Any]:
    with visited(chromium, f"{bench.address}/compose", 1200) as page:
        yield page


def type_in(page: Any, key: str, text: str) -> None:
    field = at(page, key).locator("input").first
    field.click()
    field.fill(text)
    page.keyboard.press("Enter")
    settled(page)


def write(page: Any, recipe: str) -> None:
    text = page.get_by_role("textbox", name="Recipe")
    text.fill(recipe)
    text.press("Control+Enter")
    settled(page)


def test_a_typed_name_gets_its_verdict_and_the_search_adds_another(page) -> None:
    write(page, "merge_method: task_arithmetic\n")
    type_in(page, "compose_base", "ada/base")
    type_in(page, "compose_add", "ada/rotated@main")
    page.get_by_text("Ready: 72 tensors").wait_for()
    assert page.get_by_text("vit, 4 layers, 534 k entries, BF16").count() == 2
    press(page, "compose_hub")
    type_in(page, "compose_hub_text", "mirr")
    press(page, "compose_hub_add_0")
    recipe = page.get_by_role("textbox", name="Recipe").input_value()
    assert "model: ada/rotated@main" in recipe and "model: ada/mirrored" in recipe


def test_a_diagnosis_reads_the_weights_when_it_is_asked_to(page) -> None:
    page.get_by_role("link", name="Diagnose", exact=True).click()
    page.get_by_role("heading", name="Diagnose", exact=True).wait_for()
    settled(page)
    type_in(page, "diagnose_base", "ada/base")
    type_in(page, "diagnose_models", "ada/rotated")
    page.keyboard.press("Escape")
    press(page, "diagnose_start")
    page.get_by_role("tab", name="Agreement").wait_for()


def test_a_merge_by_ranges_is_looked_at_and_then_published(page, hub: HubServer, bench: Workbench) -> None:
    models = "".join(f"- model: ada/{name}\n" for name in ("rotated", "mirrored"))
    write(page, f"merge_method: task_arithmetic\nbase_model: ada/base\nmodels:\n{models}")
    page.get_by_text("ranges", exact=True).click()
    settled(page)
    press(page, "compose_start")
    at(page, "jobs_publish").wait_for()
    press(page, "jobs_publish")
    page.get_by_text("a new private repository").wait_for()
    sent = [request for request in hub.requests if request.method in ("PUT", "POST") and "models" in request.path]
    assert sent == []
    page.get_by_text("The card", exact=True).click()
    page.get_by_test_id("stDialog").get_by_role("heading", name="merged", exact=True).wait_for()
    at(page, "publish_start").get_by_role("button").first.click()
    link = at(page, "jobs_url").get_by_role("link")
    link.wait_for()
    commit = hub.head("tester/merged")
    assert link.get_attribute("href") == f"{hub.endpoint}/tester/merged/commit/{commit}"
    there = hub.contents("tester/merged")
    (folder,) = (path.parent for path in bench.folder.rglob("merging.json"))
    assert there["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert {each["repository"] for each in json.loads(there["merging.json"])["parents"]} == {
        *("ada/base", "ada/rotated", "ada/mirrored")
    }
    assert b"license: apache-2.0" in there["README.md"]
    files = [path for path in (*bench.home.rglob("*"), bench.printed) if path.is_file()]
    assert not any(hub.token.encode() in path.read_bytes() for path in files)
    assert hub.token not in page.content() and hub.token not in page.url


def test_when_the_hub_is_gone_the_page_says_so_and_stays_usable(page, hub: HubServer) -> None:
    hub.stop()
    write(page, "merge_method: task_arithmetic\n")
    type_in(page, "compose_add", "ada/never-seen")
    page.get_by_text("cannot reach the Hub").first.wait_for()
    at(page, "hub_again").get_by_role("button").wait_for()
    type_in(page, "compose_base", "zoo · base")
    press(page, "compose_out_0")
    type_in(page, "compose_add", "zoo · rotated")
    page.get_by_text("Ready: 72 tensors").wait_for()
