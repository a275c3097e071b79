"""`merging ui`: the workbench in a browser."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import webbrowser
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import click

from merging.errors import MissingExtraError, OutputError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
TOKEN, ROOTS = "MERGING_UI_TOKEN", "MERGING_UI_ROOTS"
# How long a browser may wait for the server's first answer, and how often it is asked.
PATIENCE_SECONDS, PAUSE_SECONDS = 60.0, 0.2
# How long a server may take to end.
GRACE_SECONDS = 10.0


@click.command()
@click.option("--port", default=8501, show_default=True, type=click.IntRange(1, 65535), help="Where it listens.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others need --expose.")
@click.option(
    "--root",
    "roots",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder whose models may be opened; may be repeated. Default: the current folder.",
)
@click.option("--expose", is_flag=True, help="Let other machines in; a token is asked for at the door.")
@click.option("--allow-host", "names", multiple=True, metavar="NAME", help="A name by which --expose is reached.")
@click.option("--no-browser", is_flag=True, help="Only serve.")
def ui(host: str, port: int, roots: tuple[Path, ...], expose: bool, names: tuple[str, ...], no_browser: bool) -> None:
    """Open the workbench: explore models, compose recipes, run merges, look into checkpoints.

    It listens on this machine alone and answers to its own names only. With --expose it asks everyone for the token in
    MERGING_UI_TOKEN, or for one that it makes up and prints.

    \b
    Example:
      merging ui --root ~/models
    """
    if host not in LOOPBACK and not expose:
        raise OutputError(
            f"{host} can be reached from other machines",
            must_be=f"one of {', '.join(LOOPBACK)}",
            fix="pass --expose, with --allow-host for the name that people will type",
        )
    environment = _environment(roots, expose)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    click.echo(f"the workbench is at {address}")
    if expose:
        click.echo(f"token: {environment[TOKEN]}")
    # A request to end is an interrupt like Ctrl-C: the server must not outlive this command.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = subprocess.Popen(_command(host, port, names), env=environment)
    if not no_browser:
        threading.Thread(target=_open, args=(address, server), daemon=True).start()
    try:
        sys.exit(server.wait())
    except KeyboardInterrupt:
        click.echo("the workbench is closed; merges that it started go on")
    finally:
        _end(server)


def workbench() -> Path:
    """The workbench's entrance: in the repository this package is run from, or inside the installed package.

    Raises MissingExtraError where neither the pages nor Streamlit are installed.
    """
    package = Path(__file__).parent.parent
    for folder in (package.parent / "ui", package / "_workbench" / "ui"):
        if (folder / "app.py").is_file():
            return folder / "app.py"
    raise MissingExtraError(
        "the workbench is not part of this installation", fix="pip install --force-reinstall merging"
    )


def _environment(roots: tuple[Path, ...], expose: bool) -> dict[str, str]:
    """The server's environment: what may be opened, the token, and where `ui` is imported from."""
    environment = dict(os.environ)
    environment[ROOTS] = os.pathsep.join(str(root.resolve()) for root in roots or (Path.cwd(),))
    # Scripts of pages run in threads that come and go; a heap of glibc's for each would keep what they freed apart.
    environment.setdefault("MALLOC_ARENA_MAX", "2")
    found = [str(workbench().parent.parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(part for part in found if part)
    if expose:
        environment[TOKEN] = environment.get(TOKEN) or secrets.token_urlsafe(24)
    else:
        environment.pop(TOKEN, None)
    return environment


def _command(host: str, port: int, names: tuple[str, ...]) -> list[str]:
    """Streamlit's command line; what it does not say is in ui/.streamlit/config.toml."""
    settings = {
        "server.address": host,
        "server.port": port,
        "server.enableCORS": "true",
        "server.enableXsrfProtection": "true",
        "server.headless": "true",
        "browser.gatherUsageStats": "false",
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    # A page of another site that makes its own name point here is refused: DNS rebinding.
    options += [f"--server.allowedHosts={name}" for name in dict.fromkeys((*LOOPBACK, host, *names))]
    return [sys.executable, "-m", "streamlit", "run", str(workbench()), *options]


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _open(address: str, server: subprocess.Popen[bytes]) -> None:
    """Show the address in a browser as soon as the server answers."""
    end = time.monotonic() + PATIENCE_SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            with urlopen(f"{address}/_stcore/health", timeout=PAUSE_SECONDS):
                break
        except (URLError, OSError):
            time.sleep(PAUSE_SECONDS)
    if server.poll() is None:
        webbrowser.open(address)
