"""Folders for files that are not kept: beside the Hub's cache, locked while used, removed afterwards."""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import IO

from merging.hub.client import cache_folder

_LOCK = ".lock"


class Scratch:
    """A fresh folder; the lock goes with the program, so that what a killed one left is known to be nobody's."""

    def __init__(self, root: Path):
        root.mkdir(parents=True, exist_ok=True)
        # One program at a time: a folder that is not locked yet looks like one that was left.
        with _alone(root):
            for left in root.iterdir():
                _remove_if_left(left)
            self.folder = Path(mkdtemp(dir=root))
            self._held: IO[str] | None = (self.folder / _LOCK).open("w")
            _lock(self._held)
        atexit.register(self.remove)

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        if self._held is not None:
            self._held.close()
            self._held = None
            shutil.rmtree(self.folder, ignore_errors=True)


def scratch_root() -> Path:
    """Where such folders lie: on the disk of the Hub's cache, which is chosen for large files."""
    return cache_folder().parent / "merging-shards"


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Have no other program begin or clear away folders; where there are no locks, hope so."""
    with (root / _LOCK).open("w") as opened:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def _remove_if_left(folder: Path) -> None:
    """Remove a folder whose lock nobody holds; where there are no locks that cannot be told, and it stays."""
    with suppress(OSError):
        if folder.is_dir():
            with (folder / _LOCK).open("w") as opened:
                if _lock(opened):
                    shutil.rmtree(folder, ignore_errors=True)


def _lock(opened: IO[str]) -> bool:
    """Hold a lock on a file while it is open; False where another program has it, or where there are no locks."""
    try:
        import fcntl

        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True
