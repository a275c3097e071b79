"""Folders for files that are not kept: beside the Hub's cache, locked while used, removed afterwards."""

from __future__ import annotations

import atexit
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import IO

_LOCK = ".lock"


class Scratch:
    """A fresh folder; the lock goes with the program, so that what a killed one left is known to be nobody's."""

    def __init__(self, root: Path):
        root.mkdir(parents=True, exist_ok=True)
        for left in root.iterdir():
            _remove_if_left(left)
        self.folder = Path(mkdtemp(dir=root))
        self._lock: IO[str] | None = _locked(self.folder / _LOCK)
        atexit.register(self.remove)

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
            shutil.rmtree(self.folder, ignore_errors=True)


def scratch_root() -> Path:
    """Where such folders lie: on the disk of the Hub's cache, which is chosen for large files."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).parent / "merging-shards"


def _remove_if_left(folder: Path) -> None:
    with suppress(OSError):
        if (lock := _locked(folder / _LOCK)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            lock.close()


def _locked(path: Path) -> IO[str] | None:
    """A lock on a file, held while it is open; None where another program has it."""
    opened = path.open("w")
    try:
        import fcntl

        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        opened.close()
        return None
    except ImportError:
        pass
    return opened
