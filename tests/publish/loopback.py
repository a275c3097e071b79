"""The loopback Hub with Xet and without, our client of it, and a finished merge to publish."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import merging
from merging.hub.client import Hub
from merging.publish.outlook import Outlook
from merging.publish.push import Sending, push
from merging.publish.upload import Publication, Published, Target
from tests import tiny
from tests.hub.clients import in_this_process
from tests.hub.server import HubServer
from tests.remote import client

NAME = "tester/merged"
CARD = b"---\nlicense: mit\n---\n\n# Merged\n"
WEIGHTS = random.Random(7).randbytes(500_000)
SMALL = {"README.md": CARD, "config.json": b"{}"}


@pytest.fixture(params=[False, True], ids=["lfs", "xet"])
def either(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub without Xet, then one with."""
    yield from _running(tmp_path, monkeypatch, xet=request.param)


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub without Xet."""
    yield from _running(tmp_path, monkeypatch, xet=False)


@pytest.fixture
def xet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub with Xet."""
    yield from _running(tmp_path, monkeypatch, xet=True)


def _running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, xet: bool) -> Iterator[HubServer]:
    with HubServer(tmp_path, xet=xet) as server, in_this_process(server, tmp_path / "client"):
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server


@pytest.fixture
def merged(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merge of two tiny models in two shards, with something beside it that belongs to nobody."""
    made = tmp_path_factory.getbasetemp() / "published"
    if not made.exists():
        _merge(made)
    shutil.copytree(made / "merged", tmp_path / "merged")
    (tmp_path / "merged" / "notes.txt").write_text("mine\n")
    return tmp_path / "merged"


def _merge(folder: Path) -> None:
    made = tiny.family(folder, models=2, dtype=torch.bfloat16)
    recipe = {
        "merge_method": "task_arithmetic",
        "base_model": str(made.base),
        "models": [{"model": str(place), "parameters": {"weight": 0.5}} for place in made.tuned],
    }
    path = folder / "recipe.yaml"
    path.write_text(merging.write_yaml(recipe))
    size = (made.base / "model.safetensors").stat().st_size
    merging.merge(str(path), folder / "merged", shard_bytes=size * 2 // 3)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of WEIGHTS."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(WEIGHTS)
    return path


def begin(server: HubServer, token: str | None = None, **target: object) -> Publication:
    """A publication to NAME."""
    return Publication.open(client(server, token), Target(NAME, **target))  # type: ignore[arg-type]


def published(server: HubServer, weights: Path, **target: object) -> Published:
    """A whole publication of weights and SMALL, verified."""
    publication = begin(server, **target)
    sent = publication.send(weights.name, weights)
    made = publication.commit([sent], SMALL, "a merge")
    publication.verify(made, {weights.name: sent, **SMALL})
    return made


def hub_of(server: HubServer) -> Hub:
    """Our client of a server, which tries again at once."""
    return client(server)


def uploaded(server: HubServer) -> int:
    """Bytes of file contents that have come to the server."""
    return sum(request.received for request in server.requests if request.origin == "cdn")


def commits(server: HubServer) -> int:
    """How many commits have been asked for."""
    return sum(request.method == "POST" and "/commit/" in request.path for request in server.requests)


def outlook_of(server: HubServer, folder: Path, name: str = NAME, **options: object) -> Outlook:
    """What a push would do."""
    seen: list[Outlook | Sending] = []
    push(folder, name, dry_run=True, watch=seen.append, hub=hub_of(server), **options)  # type: ignore[arg-type]
    (found,) = seen
    assert isinstance(found, Outlook)
    return found


def require_nothing_new(server: HubServer, folder: Path, name: str = NAME) -> None:
    """A push after a push sends nothing and commits nothing."""
    made = push(folder, name, hub=hub_of(server))
    before = uploaded(server)
    seen: list[Outlook | Sending] = []
    assert push(folder, name, hub=hub_of(server), watch=seen.append).commit == made.commit
    assert uploaded(server) == before
    assert commits(server) == 1
    assert all(event.held for event in seen if isinstance(event, Sending))
