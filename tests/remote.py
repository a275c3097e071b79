"""The loopback Hub as our own client sees it: an empty cache of its own, no waiting between tries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from merging.hub.client import Hub
from merging.hub.pages import shared_pages
from tests.hub.server import HubServer

AT_ONCE = (0.0,) * 5


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    place = tmp_path / "hub-cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place))
    return place


@pytest.fixture
def server(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub without Xet, which everything in this test talks to."""
    assert not cache.exists()
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with HubServer(tmp_path) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("HF_TOKEN", running.token)
        yield running
    shared_pages().forget(lambda _: True)


def client(server: HubServer, token: str | None = None) -> Hub:
    """Our client with the owner's token or another, that tries again at once."""
    return Hub(server.endpoint, server.token if token is None else token, waits=AT_ONCE)


def folder_files(folder: Path) -> dict[str, Path]:
    """The files of a checkpoint folder by their names, to be put into a repository."""
    return {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
