"""A finished merge on its way to the Hub: shown whole before anything is sent, with a token that is kept nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from merging import Jobs, merge
from tests.hub.server import HubServer
from tests.jobs.places import over
from tests.remote import cache, server
from tests.ui.hub_pages import RECIPE, answered, hub, jobs
from tests.ui.job_pages import UI, texts
from ui.jobs.outlook import file_rows, headlines, outlook_of, parted
from ui.jobs.result import event_rows
from ui.publishing import Wish

__all__ = ["cache", "hub", "jobs", "server"]


@pytest.fixture
def merged(hub: HubServer, jobs: Jobs, tmp_path: Path) -> Path:  # noqa: ARG001
    """A finished merge of models on the Hub, and its job."""
    job = jobs.submit(RECIPE, tmp_path / "work" / "my merge")
    assert over(job) == "done"
    return job.out


def test_a_push_is_shown_whole_before_anything_is_sent(hub: HubServer, merged: Path) -> None:
    (merged / "notes.txt").write_text("mine")
    outlook = outlook_of(merged, Wish("tester/new"))
    assert headlines(outlook)[0] == r"**tester/new**, a new private repository"
    assert {row["file"]: row["there"] for row in file_rows(outlook)}["model.safetensors"] == "is new"
    assert outlook.manifest.left_out == ("notes.txt",)
    assert any("mit and apache-2.0" in notice.replace("`", "") for notice in outlook.notices)
    metadata, pieces = parted(outlook.card)
    assert "license: apache-2.0" in metadata and "merging-layers.svg" in pieces
    assert not any("<!--" in piece for piece in pieces)
    hub.add("tester/taken", {"README.md": b"# Mine\n"})
    taken = outlook_of(merged, Wish("tester/taken"))
    assert "its text stays, and the card goes to MERGE.md" in headlines(taken)[-1]
    assert {row["file"]: row["there"] for row in file_rows(taken)}["README.md"] == "gets metadata alone"
    assert "tester/new" not in str([request.path for request in hub.requests if request.method != "GET"])


def test_a_card_is_shown_without_pictures_of_others_and_without_markup() -> None:
    card = "---\nlicense: mit\n---\n<!-- x -->\n# A\n![theirs](https://tracker/x.png)\n<script>1</script>\n![o](o.svg)"
    metadata, (text, picture, rest) = parted(card)
    assert (metadata, picture, rest) == ("license: mit", "o.svg", "")
    assert "![" not in text and "<!--" not in text and "[theirs](https://tracker/x.png)" in text


def publishing(job_id: str) -> AppTest:
    page = AppTest.from_file(str(UI / "views" / "jobs.py"), default_timeout=120)
    page.query_params["job"] = job_id
    return page.run()


def test_the_dialog_takes_a_token_for_this_session_only(
    hub: HubServer, merged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    (job,) = Jobs().all()
    page = publishing(job.id)
    answered(page.button(key="jobs_publish").click().run())
    assert "There is no token" in texts(page)
    answered(page.text_input(key="publish_token").set_value(hub.token).run())
    assert page.text_input(key="publish_repository").value == "tester/my-merge"
    assert "a new private repository" in texts(page)
    page.button(key="publish_start").click().run()
    made = Jobs().all()[0]
    assert over(made) == "done"
    assert hub.contents("tester/my-merge")["model.safetensors"] == (merged / "model.safetensors").read_bytes()
    files = [path for folder in (Jobs().root, merged) for path in folder.rglob("*") if path.is_file()]
    assert not any(hub.token.encode() in path.read_bytes() for path in files)
    assert hub.token not in texts(page)
    done = publishing(made.id)
    assert f"Every file of commit {hub.head('tester/my-merge')[:12]}" in done.success[0].value
    assert "model.safetensors: 1.08 MB sent" in [row["says"] for row in event_rows(made.events())]
    assert "6 of 6 files" in texts(done)


@pytest.mark.usefixtures("merged")
def test_a_token_that_may_only_read_is_told_before_anything_is_asked(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.read_token)
    (job,) = Jobs().all()
    page = publishing(job.id)
    answered(page.button(key="jobs_publish").click().run())
    assert "may only read" in texts(page) or any("may only read" in each.value for each in page.warning)
    assert page.button(key="publish_start").disabled


@pytest.mark.usefixtures("merged")
def test_without_the_hub_nothing_can_be_published(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGING_UI_HUB", "off")
    before = len(hub.requests)
    (job,) = Jobs().all()
    assert publishing(job.id).button(key="jobs_publish").disabled
    assert len(hub.requests) == before


def test_what_was_merged_before_is_published_to_a_branch_by_the_command_shown(hub: HubServer, tmp_path: Path) -> None:
    merge(RECIPE, tmp_path / "work" / "again")
    wish = Wish("tester/base", branch="merged", private=False, replace=True, message="m")
    assert wish.options() == ["--branch", "merged", "--public", "--replace", "--message", "m"]
    outlook = outlook_of(tmp_path / "work" / "again", wish)
    assert "stays so" in headlines(outlook)[0]
    assert outlook.parent == hub.head("tester/base")
