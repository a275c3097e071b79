"""Whole files: by Xet and without, pulled into a folder, gone on with after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from merging.checkpoint.shards import open_checkpoint
from merging.errors import HubError, HubWarning, MergingError, OutputError
from merging.hub.checkpoint import open_repository
from merging.hub.names import HubName
from merging.hub.pages import shared_pages
from merging.hub.pull import pull
from merging.hub.scratch import Scratch
from tests import tiny
from tests.hub.server import Fault, HubServer
from tests.remote import cache, client, folder_files, server

__all__ = ["cache", "server"]

NAME = HubName("tester/model")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tensors, config = tiny.llama(layers=2)
    return tiny.write(tmp_path / "model", tensors, config, shards=2)


@pytest.fixture
def xet_server(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    assert not cache.exists()
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    with HubServer(tmp_path, xet=True) as running:
        yield running
    shared_pages().forget(lambda _: True)


def asked_xet(server: HubServer) -> bool:
    return any("xet-read-token" in request.path for request in server.requests)


def test_a_pulled_folder_holds_the_files_of_the_repository(server: HubServer, model: Path, tmp_path: Path) -> None:
    files = folder_files(model)
    server.add("tester/model", {**files, "modeling.py": b"import os", "pytorch_model.bin": b"x" * 20})
    hub = client(server)
    folder = pull(hub, hub.pin(NAME), tmp_path / "pulled")
    held = {name: path.read_bytes() for name, path in folder_files(folder).items() if not name.startswith(".cache/")}
    assert held == {name: path.read_bytes() for name, path in files.items()}


def test_pulling_again_fetches_only_what_is_missing(server: HubServer, model: Path, tmp_path: Path) -> None:
    server.add("tester/model", folder_files(model))
    hub = client(server)
    folder = pull(hub, hub.pin(NAME), tmp_path / "pulled")
    first = min(folder.glob("*.safetensors"))
    first.unlink()
    before = len(server.requests)
    pull(hub, hub.pin(NAME), folder)
    fetched = [r.path for r in server.requests[before:] if r.origin == "cdn" and r.method == "GET"]
    assert len(fetched) == 1
    assert first.read_bytes() == (model / first.name).read_bytes()


@pytest.mark.parametrize("name", ["config.json", "model-00002-of-00002.safetensors"])
def test_a_file_that_somebody_changed_is_not_overwritten(
    server: HubServer, model: Path, tmp_path: Path, name: str
) -> None:
    server.add("tester/model", folder_files(model))
    hub = client(server)
    folder = pull(hub, hub.pin(NAME), tmp_path / "pulled")
    changed = bytearray((folder / name).read_bytes())
    changed[-2] ^= 1
    (folder / name).write_bytes(changed)
    with pytest.raises(OutputError, match="differ from those of") as caught:
        pull(hub, hub.pin(NAME), folder)
    assert caught.value.where == name
    assert (folder / name).read_bytes() == changed


def test_a_folder_of_something_else_is_left_alone(server: HubServer, model: Path, tmp_path: Path) -> None:
    server.add("tester/model", folder_files(model))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    hub = client(server)
    with pytest.raises(OutputError, match="holds files that are not of this repository"):
        pull(hub, hub.pin(NAME), tmp_path / "mine")
    assert [each.name for each in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_files_come_by_xet_where_the_hub_offers_it(xet_server: HubServer, model: Path, tmp_path: Path) -> None:
    xet_server.add("tester/model", folder_files(model))
    hub = client(xet_server)
    folder = pull(hub, hub.pin(NAME), tmp_path / "pulled")
    assert asked_xet(xet_server)
    for file in model.glob("*.safetensors"):
        assert (folder / file.name).read_bytes() == file.read_bytes()


def test_where_xet_fails_the_file_comes_without_it_and_that_is_said(
    xet_server: HubServer, model: Path, tmp_path: Path
) -> None:
    xet_server.add("tester/model", folder_files(model))
    xet_server.fail(Fault("GET", "xet-read-token", status=404, times=99))
    hub = client(xet_server)
    with pytest.warns(HubWarning, match="Xet failed for .*; going on without it"):
        folder = pull(hub, hub.pin(NAME), tmp_path / "pulled")
    for file in model.glob("*.safetensors"):
        assert (folder / file.name).read_bytes() == file.read_bytes()
    assert not constants.HF_HUB_DISABLE_XET


def test_ranges_of_files_in_xet_come_by_xet(xet_server: HubServer, model: Path) -> None:
    xet_server.add("tester/model", folder_files(model))
    opened = open_repository(NAME, client(xet_server), "ranges")
    headers = [r.served for r in xet_server.requests if "/xorbs/" in r.path]
    assert headers == []
    local = open_checkpoint(model)
    assert all(opened.read(name).equal(local.read(name)) for name in local.specs)
    assert any("/xorbs/" in request.path for request in xet_server.requests)


def test_ranges_come_over_http_where_xet_fails(xet_server: HubServer, model: Path) -> None:
    xet_server.add("tester/model", folder_files(model))
    opened = open_repository(NAME, client(xet_server), "ranges")
    xet_server.fail(Fault("GET", "xet-read-token", status=404, times=99))
    local = open_checkpoint(model)
    with pytest.warns(HubWarning, match="Xet failed for .*; going on without it"):
        assert all(opened.read(name).equal(local.read(name)) for name in local.specs)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"README.md": b"empty"}, "holds no safetensors weights"),
        ({"adapter_config.json": b"{}"}, "holds no safetensors weights"),
        ({"unet/model.safetensors": b"x" * 99}, "at its top, only in unet"),
        ({"model.safetensors.index.json": b'{"weight_map": {"a": "gone.safetensors"}}'}, "shards are missing: gone"),
    ],
)
def test_a_repository_without_usable_weights_says_so(server: HubServer, files: dict[str, bytes], words: str) -> None:
    server.add("tester/model", files)
    with pytest.raises(MergingError, match=words):
        open_repository(NAME, client(server), "ranges")


def test_an_unreachable_hub_says_how_to_go_on() -> None:
    from merging.hub.client import Hub

    with pytest.raises(HubError, match="cannot reach the Hub") as caught:
        open_repository(NAME, Hub("http://127.0.0.1:9", None, waits=()), "ranges")
    assert "HF_HUB_OFFLINE=1" in str(caught.value.fix)


def test_a_token_is_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    from merging.hub.client import Hub

    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    with pytest.raises(HubError, match="without encryption") as caught:
        Hub.from_environment()
    assert "hf_secretsecret" not in str(caught.value)
    assert "hf_secretsecret" not in repr(Hub("https://hub.example", "hf_secretsecret"))


def test_a_killed_programs_scratch_is_cleared_away_and_a_living_ones_is_not(tmp_path: Path) -> None:
    mine = Scratch(tmp_path)
    (mine.folder / "shard").write_bytes(b"x")
    left = tmp_path / "left"
    left.mkdir()
    (left / "shard").write_bytes(b"x")
    other = Scratch(tmp_path)
    assert sorted(each for each in tmp_path.iterdir() if each.is_dir()) == sorted([mine.folder, other.folder])
    mine.remove()
    other.remove()
    assert [each for each in tmp_path.iterdir() if each.is_dir()] == []


def test_every_file_falls_back_when_xet_is_down_for_all(
    xet_server: HubServer, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    tensors, config = tiny.llama(layers=4)
    made = tiny.write(tmp_path / "many", tensors, config, shards=6)
    xet_server.add("tester/model", folder_files(made))
    xet_server.fail(Fault("GET", "xet-read-token", status=404, times=99))
    hub = client(xet_server)
    folder = pull(hub, hub.pin(NAME), tmp_path / "pulled")
    assert all((folder / file.name).read_bytes() == file.read_bytes() for file in made.glob("*.safetensors"))
    assert any(issubclass(each.category, HubWarning) for each in recwarn)


def test_pulling_tells_every_file(server: HubServer, model: Path, tmp_path: Path) -> None:
    server.add("tester/model", folder_files(model))
    hub, told = client(server), list[str]()
    pull(hub, hub.pin(NAME), tmp_path / "pulled", lambda file: told.append(file.path))
    assert sorted(told) == sorted(folder_files(model))


def test_a_disk_without_room_is_known_before_anything_is_fetched(
    server: HubServer, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add("tester/model", folder_files(model))
    monkeypatch.setattr("merging.hub.pull.require_space", require_space_of(1000))
    hub = client(server)
    pinned = hub.pin(NAME)
    asked = len(server.requests)
    with pytest.raises(OutputError, match="1,000 are free"):
        pull(hub, pinned, tmp_path / "pulled")
    assert len(server.requests) == asked


def require_space_of(free: int) -> Callable[[Path, int], None]:
    """A disk with so many bytes free."""

    def require(folder: Path, nbytes: int) -> None:
        if nbytes > free:
            raise OutputError(f"the output needs {nbytes:,} bytes, {free:,} are free", where=str(folder))

    return require


@pytest.mark.parametrize(
    ("name", "size"), [("tokenizer.json", 600 << 20), *[(f"additional_chat_templates/{i}.jinja", 5) for i in range(1)]]
)
def test_files_beside_the_weights_have_a_limit(
    server: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int
) -> None:
    server.add("tester/model", {**folder_files(model), name: b"x" * min(size, 2000)})
    monkeypatch.setattr("merging.hub.checkpoint.SIDECAR_LIMIT", 1000)
    if size > 1000:
        with pytest.raises(MergingError, match=r"tokenizer\.json is 2,000 bytes long"):
            open_repository(NAME, client(server), "ranges")
    else:
        assert name in open_repository(NAME, client(server), "ranges").sidecar_names


def test_a_branch_that_moves_while_models_are_opened_is_one_commit_all_the_same(server: HubServer, model: Path) -> None:
    first = server.add("tester/model", folder_files(model))
    hub = client(server).remembering()
    assert hub.pin(NAME).commit == first
    server.add("tester/model", {"note.txt": b"later"})
    assert hub.pin(NAME).commit == first
    assert client(server).pin(NAME).commit != first
