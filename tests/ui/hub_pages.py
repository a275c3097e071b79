"""A loopback Hub with bundled models, and pages that ask it, for tests of what they show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from merging import Jobs, find_zoo
from tests.hub.server import HubServer
from tests.jobs.places import root_at
from tests.remote import folder_files
from tests.ui.job_pages import UI, texts

ZOO = find_zoo()
# The header of one of the bundled models is shorter, its weights are a hundred times as long.
HEADER_BYTES = 12_000
RECIPE = """merge_method: task_arithmetic
base_model: tester/base
models:
- model: tester/rotated
- model: tester/mirrored
parameters:
  lambda: 0.4
"""


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with root_at(tmp_path / "home") as found:
        yield found


@pytest.fixture
def hub(jobs: Jobs, server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:  # noqa: ARG001
    """A Hub with some of the bundled models, and a workbench that knows nothing of it yet."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("MERGING_UI_ROOTS", str(tmp_path / "work"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    st.cache_data.clear()
    st.cache_resource.clear()
    server.add("tester/base", {**folder_files(ZOO.base), "README.md": b"---\nlicense: apache-2.0\n---\n"})
    for name in ("rotated", "mirrored"):
        server.add(f"tester/{name}", {**folder_files(ZOO.fine_tunes[name]), "README.md": b"---\nlicense: mit\n---\n"})
    return server


def opened_compose() -> AppTest:
    return AppTest.from_file(str(UI / "app.py"), default_timeout=60).run().switch_page("views/compose.py").run()


def compose(recipe: str = RECIPE) -> AppTest:
    return answered(opened_compose().text_area(key="compose_text").set_value(recipe).run())


def answered(page: AppTest) -> AppTest:
    """The page when the Hub has answered all that it was asked, which a page does not wait for."""
    while "Asking the Hub" in texts(page) or any(each.key == "publish_look" for each in page.button):
        page.run()
    return page


def of_weights(hub: HubServer) -> int:
    """Bytes of large files that went out."""
    return sum(request.served for request in hub.requests if request.origin == "cdn")


def metrics(page: AppTest) -> dict[str, str]:
    return {each.label: each.value for each in page.metric}
