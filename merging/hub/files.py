"""A remote file that is fetched whole before its first byte is read: kept in the cache, or only while it is needed."""

from __future__ import annotations

from concurrent.futures import Future
from functools import cache
from pathlib import Path
from threading import Event, Lock

from merging.checkpoint.bytes import LocalBytes
from merging.hub.client import Hub, Pinned, RemoteFile, cached_file
from merging.hub.daemons import Daemons, outcome
from merging.hub.download import TOGETHER, download

# Which check every byte has passed that was read.
WHOLE, SIZES, NONE = "sha256 of whole files", "size of files", "none: ranges"


class FetchedBytes:
    """A file of a pinned repository, downloaded when it is first read or announced.

    Without `folder` it stays in the Hub's cache. With one it lies there until `release`, and is fetched again when it
    is read after that.
    """

    def __init__(self, hub: Hub, pinned: Pinned, file: RemoteFile, folder: Path | None = None):
        self.size = file.size
        self._hub = hub
        self._pinned = pinned
        self._file = file
        self._folder = folder
        # What an earlier run has put into the cache passed its check then.
        self.integrity = SIZES if cached_file(pinned, file.path) else WHOLE
        self.stop: Event | None = None
        self._coming: Future[LocalBytes] | None = None
        self._lock = Lock()

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the buffer from position `start`. Raises HubError, CheckpointError."""
        self._local().read_into(start, buffer)

    def advise(self, start: int, nbytes: int) -> None:
        """Have the file fetched in the background; once it is here, have the range read ahead."""
        coming = self._begun()
        if coming.done() and coming.exception() is None:
            coming.result().advise(start, nbytes)

    def close(self) -> None:
        """Let go of the open file."""
        if self._coming is not None and self._coming.done() and self._coming.exception() is None:
            self._coming.result().close()

    def release(self) -> None:
        """Remove a file that is not kept: nothing will read it for now."""
        if self._folder is None:
            return
        with self._lock:
            coming, self._coming = self._coming, None
        if coming is not None:
            if coming.done() and coming.exception() is None:
                coming.result().close()
            (self._folder / self._file.path).unlink(missing_ok=True)

    def _local(self) -> LocalBytes:
        coming = self._begun()
        try:
            return outcome(coming, self.stop)
        except BaseException:
            with self._lock:
                if self._coming is coming and coming.done():
                    self._coming = None
            raise

    def _begun(self) -> Future[LocalBytes]:
        with self._lock:
            if self._coming is None:
                self._coming = _fetching().submit(self._fetched)
            return self._coming

    def _fetched(self) -> LocalBytes:
        held = cached_file(self._pinned, self._file.path)
        return LocalBytes(held or download(self._hub, self._pinned, self._file.path, self._folder))


@cache
def _fetching() -> Daemons:
    return Daemons(TOGETHER, "merging-fetch")
