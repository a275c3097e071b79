"""The workbench as a person meets it: a real server in a process of its own, a real Chromium."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import heed_interrupts

ROOT = Path(__file__).parent.parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
START_SECONDS = 60.0


@dataclass(frozen=True)
class Workbench:
    """A running server, the folder it may open beside the bundled models, and where its jobs lie."""

    port: int
    folder: Path
    home: Path
    printed: Path
    server: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started(folder: Path, *options: str, port: int | None = None, token: str = "") -> Workbench:
    """`merging ui` as a person starts it, once it answers."""
    port = port or free_port()
    work, home, printed = folder / "work", folder / "home", folder / f"ui-{port}.log"
    work.mkdir(exist_ok=True)
    environment = {**os.environ, "MERGING_HOME": str(home), "XDG_CACHE_HOME": str(folder / "cache")}
    environment |= {"MERGING_UI_TOKEN": token} if token else {}
    command = [sys.executable, "-m", "merging", "ui", "--no-browser", "--port", str(port), "--root", str(work)]
    with printed.open("wb") as log:
        server = subprocess.Popen(
            [*command, *options], env=environment, stdout=log, stderr=log, cwd=ROOT, preexec_fn=heed_interrupts
        )
    bench = Workbench(port, work, home, printed, server)
    end = time.monotonic() + START_SECONDS
    while not _answers(bench):
        if server.poll() is not None or time.monotonic() > end:
            stop(bench)
            pytest.fail(f"the server did not start:\n{printed.read_text()}")
        server.poll()
    return bench


def _answers(bench: Workbench) -> bool:
    try:
        with urllib.request.urlopen(f"{bench.address}/_stcore/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def stop(bench: Workbench) -> None:
    """End the server as Ctrl-C does, or by force."""
    if bench.server.poll() is None:
        bench.server.send_signal(signal.SIGINT)
        try:
            bench.server.wait(20)
        except subprocess.TimeoutExpired:
            bench.server.kill()
            bench.server.wait()


def stop_content(bench: Workbench) -> None:
    """End the server, which must have had no trouble with anything that was done on its pages."""
    stop(bench)
    printed = bench.printed.read_text()
    assert "Traceback" not in printed and "Error" not in printed, printed


@pytest.fixture(scope="session")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    bench = started(tmp_path_factory.mktemp("workbench"))
    yield bench
    stop_content(bench)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser; where none is installed the tests are skipped, except on a machine that runs them for others."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        says = "no Chromium is installed (Debian: apt-get install chromium); the browser tests did not run"
        pytest.fail(says) if os.environ.get("CI") else pytest.skip(says)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield browser
        browser.close()
