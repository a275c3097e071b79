"""Starting a job's worker: the command line that anybody could type, in a session of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from merging.errors import OutputError
from merging.jobs.state import LOG_FILE


def spawn(command: Sequence[str], folder: Path, token: str | None = None) -> None:
    """Start `merging …` and leave it alone: it outlives this process, its terminal and its server.

    What it prints goes to the log in the job's folder. An access token for the Hub goes into its environment, where no
    list of programs shows it. Raises OutputError where no process can be started.
    """
    program = [sys.executable, "-m", "merging", *command[1:]]
    # The second tells the Hub's client that a token was given on purpose.
    environment = {**os.environ, "HF_TOKEN": token, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0"} if token else None
    try:
        with (folder / LOG_FILE).open("ab") as log:
            child = subprocess.Popen(
                program,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                close_fds=True,
            )
    except OSError as error:
        raise OutputError(f"no process could be started for {folder}: {error.strerror}") from None
    # Somebody must ask how a child ended, else the kernel keeps its number.
    threading.Thread(target=child.wait, daemon=True).start()
