"""Who is let into the workbench: other sites, other names and strangers are not."""

from __future__ import annotations

import base64
import os
import signal
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from merging.cli.program import program
from tests.ui.conftest import Workbench, free_port, started, stop


def upgrade(port: int, host: str, origin: str) -> int:
    """Status of a WebSocket handshake that claims to come from a page of `origin` to `host`."""
    key = base64.b64encode(os.urandom(16)).decode()
    asked = (
        f"GET /_stcore/stream HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
        link.sendall(asked.encode())
        return int(link.recv(64).split()[1])


def test_its_own_page_may_connect(workbench: Workbench) -> None:
    for name in ("127.0.0.1", "localhost"):
        assert upgrade(workbench.port, f"{name}:{workbench.port}", f"http://{name}:{workbench.port}") == 101


def test_a_foreign_name_that_points_here_is_refused(workbench: Workbench) -> None:
    name = f"evil.example:{workbench.port}"
    assert upgrade(workbench.port, name, f"http://{name}") == 403


def test_a_page_of_another_site_is_refused(workbench: Workbench) -> None:
    assert upgrade(workbench.port, f"127.0.0.1:{workbench.port}", "http://evil.example") == 403


def test_it_listens_on_this_machine_alone(workbench: Workbench) -> None:
    listening = [line.split() for file in ("tcp", "tcp6") for line in _table(file)]
    addresses = {cells[1].split(":")[0] for cells in listening if cells[1].endswith(f":{workbench.port:04X}")}
    assert addresses <= {"0100007F"}, "listens on more than 127.0.0.1"


def _table(name: str) -> list[str]:
    file = Path("/proc/net") / name
    return [line for line in file.read_text().splitlines()[1:] if " 0A " in line] if file.exists() else []


def test_another_address_needs_to_be_asked_for() -> None:
    result = CliRunner().invoke(program, ["ui", "--host", "0.0.0.0", "--no-browser"])
    assert result.exception is not None
    assert "can be reached from other machines" in str(result.exception)


def test_strangers_see_nothing_but_the_door(tmp_path: Path, chromium) -> None:
    bench = started(tmp_path, "--expose", port=free_port(), token="open sesame")
    try:
        page = chromium.new_page()
        page.goto(f"{bench.address}/browse")
        page.get_by_label("Token", exact=True).fill("wrong")
        page.get_by_role("button", name="Open").click()
        page.get_by_text("That is not the token.").wait_for()
        assert page.get_by_text("Checkpoint").count() == 0
        page.get_by_label("Token", exact=True).fill("open sesame")
        page.get_by_role("button", name="Open").click()
        page.get_by_role("heading", name="Browse").wait_for()
        assert "sesame" not in page.url
        page.close()
    finally:
        stop(bench)
    assert "token: open sesame" in bench.printed.read_text()


def test_no_token_is_inherited_by_a_workbench_that_is_not_exposed(monkeypatch) -> None:
    from merging.cli.ui import _environment

    monkeypatch.setenv("MERGING_UI_TOKEN", "left over")
    assert "MERGING_UI_TOKEN" not in _environment((), expose=False)


def test_threads_share_few_heaps_unless_a_person_says_how_many(monkeypatch) -> None:
    from merging.cli.ui import _environment

    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert _environment((), expose=False)["MALLOC_ARENA_MAX"] == "2"
    monkeypatch.setenv("MALLOC_ARENA_MAX", "8")
    assert _environment((), expose=False)["MALLOC_ARENA_MAX"] == "8"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_running_when_it_is_closed(tmp_path: Path, ending: signal.Signals) -> None:
    bench = started(tmp_path)
    bench.server.send_signal(ending)
    bench.server.wait(30)
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", bench.port), timeout=5):
        pass
