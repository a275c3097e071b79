"""Models on the Hub in the workbench: typed, searched, judged by headers, fetched; and what happens without a Hub."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from huggingface_hub import constants
from streamlit.testing.v1 import AppTest

from merging import Hub, Jobs, contents, read_recipe
from merging.hub.names import HubName
from merging.hub.pull import pull
from merging.hub.search import Found
from tests.hub.server import Fault, HubServer
from tests.jobs.places import over
from tests.remote import cache, folder_files, server
from tests.ui.hub_pages import (
    HEADER_BYTES,
    RECIPE,
    ZOO,
    answered,
    compose,
    hub,
    jobs,
    metrics,
    of_weights,
    opened_compose,
)
from tests.ui.job_pages import UI, texts
from ui import remote
from ui.compose.hub_search import tells
from ui.places import refusal, short, stamp

__all__ = ["cache", "hub", "jobs", "server"]


def test_a_name_on_the_hub_is_judged_from_its_headers_alone(hub: HubServer) -> None:
    page = compose()
    assert "Ready: 72 tensors" in texts(page)
    assert texts(page).count("vit, 4 layers, 534 k entries, BF16") == 3
    assert not page.button(key="compose_start").disabled
    assert 0 < of_weights(hub) < 3 * HEADER_BYTES
    before = len(hub.requests)
    page.number_input(key="compose_all_lambda").set_value(0.7).run()
    assert "Ready: 72 tensors" in texts(page)
    assert len(hub.requests) == before


def test_how_bytes_are_fetched_decides_what_is_moved_and_the_command(hub: HubServer) -> None:
    page = compose()
    assert metrics(page)["Fetched"] == "3.23 MB"
    assert [each.count("SHA-256") for each in page.radio(key="compose_fetch").proto.captions] == [1, 1, 1]
    page.radio(key="compose_fetch").set_value("ranges").run()
    assert metrics(page)["Fetched"] == "3.21 MB"
    assert any("--fetch ranges" in each.value for each in page.code)
    page.button(key="compose_start").click().run()
    (job,) = Jobs().all()
    assert over(job) == "done"
    record = json.loads((job.out / "merging.json").read_text())
    assert {each["integrity"] for each in record["parents"]} == {"none: ranges"}
    assert read_recipe(job.recipe + "\n").sources() == ("tester/rotated", "tester/mirrored", "tester/base")
    assert hub.token not in job.recipe


def test_recipes_of_local_models_ask_nothing_about_the_hub(hub: HubServer) -> None:
    page = opened_compose()
    assert "Ready: 72 tensors" in texts(page)
    assert "Fetched" not in metrics(page) and not page.radio
    assert hub.requests == []


def test_a_name_that_the_hub_does_not_know_is_refused_and_the_rest_stays_usable(hub: HubServer) -> None:
    page = compose(RECIPE.replace("tester/mirrored", "tester/nothing"))
    assert "there is no repository tester/nothing" in texts(page)
    assert page.button(key="compose_start").disabled
    hub.add("tester/nothing", folder_files(ZOO.fine_tunes["mirrored"]))
    assert "Ready: 72 tensors" in texts(answered(page.button(key="hub_again").click().run()))


def test_an_unreachable_hub_is_told_in_a_box_and_the_page_goes_on(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.stop()
    page = compose()
    assert "cannot reach the Hub" in texts(page)
    assert "Asking the Hub" not in texts(page)
    assert page.button(key="compose_start").disabled
    page.selectbox(key="compose_method").select("ties").run()
    assert "merge_method: ties" in page.text_area(key="compose_text").value
    monkeypatch.setenv("MERGING_UI_HUB", "off")
    assert "does not ask the Hub" in texts(page.run())


def test_a_silent_hub_is_not_waited_for(hub: HubServer) -> None:
    gate = threading.Event()
    hub.fail(Fault("GET", "/api/models/tester", hold=gate, times=1000))
    page = opened_compose().text_area(key="compose_text").set_value(RECIPE).run()
    assert "Asking the Hub for tester/rotated, tester/mirrored, tester/base" in texts(page)
    assert page.button(key="compose_start").disabled
    page.number_input(key="compose_all_lambda").set_value(0.9).run()
    assert "lambda: 0.9" in page.text_area(key="compose_text").value
    gate.set()
    assert "Ready: 72 tensors" in texts(answered(page))


def test_offline_what_the_cache_holds_can_be_composed_and_search_says_why_it_cannot(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("base", "rotated", "mirrored"):
        client = Hub.from_environment()
        pull(client, client.pin(HubName(f"tester/{name}")), None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(hub.requests)
    page = compose()
    assert "Ready: 72 tensors" in texts(page)
    assert metrics(page)["Fetched"] == "0 B"
    searching(page, "rotated")
    assert "the Hub is not searched in offline mode. Names can be typed all the same" in texts(page)
    assert len(hub.requests) == before


def searching(page: AppTest, text: str) -> AppTest:
    page.session_state["compose_hub"] = True
    page.run()
    page.text_input(key="compose_hub_text").set_value(text).run()
    while any(each.key == "compose_hub_look" for each in page.button):
        page.run()
    return page


@pytest.mark.usefixtures("hub")
def test_what_the_search_finds_is_added_or_becomes_the_base_with_a_click() -> None:
    page = compose("merge_method: task_arithmetic\n")
    searching(page, "tester/")
    assert "mit · 0 downloads" in texts(page)
    page.button(key="compose_hub_add_1").click().run()
    page.button(key="compose_hub_add_2").click().run()
    page.button(key="compose_hub_base_0").click().run()
    recipe = read_recipe(page.text_area(key="compose_text").value)
    assert (recipe.base_model, *(each.source for each in recipe.models)) == (
        "tester/base",
        "tester/mirrored",
        "tester/rotated",
    )
    assert "Ready: 72 tensors" in texts(answered(page))
    assert "no model with safetensors weights of this name" in texts(searching(page, "nothing like it"))


def test_the_workbench_can_be_kept_from_the_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGING_UI_HUB", "off")
    assert "does not ask the Hub" in str(refusal("tester/base"))
    page = compose()
    assert "does not ask the Hub" in texts(page)
    assert page.button(key="compose_start").disabled
    assert not page.get("popover") or all(each.proto.popover.label != "From the Hub" for each in page.get("popover"))
    assert hub.requests == []


def test_names_on_the_hub_are_allowed_and_paths_are_judged_as_before(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret" / "model").mkdir(parents=True)
    for source in ("tester/base", "tester/base@main", "hf://tester/base", "tester/base+tester/lora"):
        assert refusal(source) is None
    assert "lies outside" in str(refusal("secret/model"))
    assert "lies outside" in str(refusal("tester/base+/etc"))
    assert "lies outside" in str(refusal("tester/base+/no/such/adapter"))
    assert (short("tester/base@main"), short("hf://a/b+c/d")) == ("base", "b + d")
    assert stamp("tester/base") == ((f"tester/base@{hub.head('tester/base')}", 0, 0),)


def test_browsing_reads_the_selected_tensor_and_no_other(hub: HubServer) -> None:
    page = AppTest.from_file(str(UI / "views" / "browse.py"), default_timeout=60)
    page.session_state["browse_source"] = "tester/rotated"
    answered(page.run())
    assert metrics(page)["Tensors"] == "72"
    assert of_weights(hub) < HEADER_BYTES


def test_diagnosing_says_what_it_would_fetch_before_it_does(hub: HubServer) -> None:
    page = AppTest.from_file(str(UI / "views" / "diagnose.py"), default_timeout=120)
    page.session_state["diagnose_base"] = "tester/base"
    page.session_state["diagnose_models"] = ["tester/rotated", "tester/mirrored"]
    answered(page.run())
    assert "One pass reads 3.21 MB, 3.21 MB of it from the Hub" in texts(page)
    assert not page.dataframe
    assert of_weights(hub) < 3 * HEADER_BYTES


def test_exploring_asks_before_weights_are_read(hub: HubServer) -> None:
    page = AppTest.from_file(str(UI / "views" / "explore.py"), default_timeout=120)
    page.session_state["explore_base"] = "tester/base"
    page.session_state["explore_models"] = ["tester/rotated"]
    answered(page.run())
    assert "2.14 MB are to be read from the Hub" in texts(page)
    assert "Norm" not in metrics(page)
    assert of_weights(hub) < 2 * HEADER_BYTES


def test_a_line_of_the_search_tells_what_is_known_and_nothing_else() -> None:
    now = datetime(2026, 11, 25, tzinfo=UTC)
    full = Found("a/b", 12_300, 45, datetime(2025, 10, 1, tzinfo=UTC), True, True, "mit", 7_240_000_000, 14_480_000_000)
    assert tells(full, now) == (
        "7.24 B entries · 14.5 GB · mit · 12.3 k downloads · 45 likes · changed 1 year ago · gated · private"
    )
    assert tells(Found("a/b", adapter=True), now) == "adapter · no licence stated · 0 downloads"


def test_only_headers_are_read_of_a_remote_model_for_lists(hub: HubServer) -> None:
    held = contents(remote.opened("tester/base"))
    assert len(held.tensors) == 72
    assert remote.as_fetched(remote.opened("tester/base"), "shards").fetch == "shards"  # type: ignore[attr-defined]
    assert remote.opened("tester/base").fetch == "ranges"  # type: ignore[attr-defined]
    assert of_weights(hub) < HEADER_BYTES
