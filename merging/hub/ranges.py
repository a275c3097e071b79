"""A remote file by ranges, with nothing on disk: answers are checked, broken ones gone on with or asked anew.

What is read by Xet is checked there, chunk by chunk; headers come over HTTP, byte for byte as asked.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock
from typing import Any
from urllib.parse import quote, urlsplit

from merging.errors import HubError, HubWarning
from merging.hub.answers import BUSY, LONGEST_WAIT, is_passing, told
from merging.hub.client import PATIENCE, Hub, Pinned, RemoteFile
from merging.hub.pages import PAGE_BYTES, Pages, shared_pages
from merging.hub.redact import redacted
from merging.hub.xet import is_offered, xet_range

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
# Less than this in one answer is no progress.
PROGRESS_BYTES = 1 << 16
# The address has expired: a fresh one may serve.
_STALE = (401, 403, 404, 410)


class _Again(Exception):
    """An answer that may be better the next time; `stale` asks for a fresh address first."""

    def __init__(self, reason: str, *, stale: bool = False, wait: float | None = None):
        super().__init__(reason)
        self.stale = stale
        self.wait = wait


@dataclass(frozen=True, slots=True)
class _Address:
    """Where a file's bytes are now; `xet` is where Xet has them."""

    url: str
    ours: bool
    xet: Any = None


class RangeBytes:
    """A file of a pinned repository as positional reads over HTTP; its pieces are shared by all readers."""

    def __init__(self, hub: Hub, pinned: Pinned, file: RemoteFile, pages: Pages | None = None):
        self.size = file.size
        self._hub = hub
        self._pinned = pinned
        self._file = file
        self._pages = pages or shared_pages()
        self._key = (hub.endpoint, pinned.repository, pinned.commit, file.path)
        self._address: _Address | None = None
        self._asking = Lock()
        self._xet_failed = False
        # What the storage calls the file: two answers of different names are of different files.
        self._etag: str | None = None
        self._doubted = False
        self.stop: Event | None = None

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the buffer from position `start`. Raises HubError when the Hub does not give what it promised."""
        stop = start + len(buffer)
        for first, last in self._pieces(start, stop):
            piece = self._pages.get((*self._key, first), last - first, partial(self.fetch, first, last), self.stop)
            a, b = max(start, first), min(stop, last)
            buffer[a - start : b - start] = memoryview(piece)[a - first : b - first]

    def advise(self, start: int, nbytes: int) -> None:
        """Have the pieces of a range fetched in the background, as far as there is room."""
        for first, last in self._pieces(start, min(start + nbytes, self.size)):
            if not self._pages.ask((*self._key, first), last - first, partial(self.fetch, first, last)):
                return

    def close(self) -> None:
        """Let go of all pieces."""
        self._pages.forget(lambda key: isinstance(key, tuple) and key[:-1] == self._key)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        for first in range(start - start % PAGE_BYTES, stop, PAGE_BYTES):
            yield first, min(first + PAGE_BYTES, self.size)

    def fetch(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop): by Xet where the Hub offers it and it works, else over HTTP. Raises HubError."""
        place = None if self._xet_failed else self._xet_place()
        if is_offered(place):
            try:
                return xet_range(self._hub, place, self.size, start, stop)
            except Exception as error:
                self._xet_failed = True
                what = f"{self._file.path} of {self._pinned} ({type(error).__name__})"
                warnings.warn(f"Xet failed for {what}; going on without it", HubWarning, stacklevel=2)
        return self.fetch_exactly(start, stop)

    def _xet_place(self) -> Any:
        """Where Xet has the file; None where it has not, or the Hub cannot say now."""
        try:
            return self._located().xet
        except _Again:
            return None

    def fetch_exactly(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop) in as few requests as the connection allows, and no others. Raises HubError."""
        content = bytearray()
        waits = iter((0.0, *self._hub.waits))
        while len(content) < stop - start:
            before = len(content)
            try:
                self._receive(start + before, stop, content)
            except _Again as problem:
                if problem.stale:
                    self._address = None
                # What has arrived is progress, and patience begins anew; drops of it are not.
                waits = iter(self._hub.waits) if len(content) - before >= PROGRESS_BYTES else waits
                wait = next(waits, None)
                if wait is None:
                    raise self._refused(str(problem), start, stop) from None
                Event().wait(min(max(wait, problem.wait or 0.0), LONGEST_WAIT))
        return bytes(content)

    def _receive(self, start: int, stop: int, content: bytearray) -> None:
        """One request; what arrives is appended. Raises _Again, and HubError for what no further try would mend."""
        import httpx2
        from huggingface_hub.utils._http import get_session

        address = self._located()
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        # The token belongs to the endpoint; where its answer leads, the address itself is the permission.
        headers |= self._hub.headers() if address.ours else {}
        try:
            with get_session().stream("GET", address.url, headers=headers, timeout=PATIENCE) as answer:
                self._judge(answer, start, stop)
                for piece in answer.iter_raw():
                    if answer.num_bytes_downloaded > stop - start:
                        raise self._refused("more bytes came than were asked for", start, stop)
                    content += piece
            if answer.num_bytes_downloaded < stop - start:
                raise _Again("the answer ended too early")
        except httpx2.HTTPError as error:
            raise _Again(f"{type(error).__name__}: {error}") from None

    def _judge(self, answer: Any, start: int, stop: int) -> None:
        """Whether an answer's head promises exactly these bytes of this file."""
        status = answer.status_code
        if status in _STALE:
            raise _Again(f"the storage answered {status}", stale=True)
        if status in BUSY:
            later = answer.headers.get("Retry-After", "")
            raise _Again(f"the storage answered {status}", wait=float(later) if later.isdigit() else None)
        if status == 200:
            raise self._refused("the server sent the whole file when a part was asked for", start, stop)
        told_range = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if status != 206 or not told_range:
            raise self._refused(f"the server answered {status} without the range", start, stop)
        if tuple(map(int, told_range.groups())) != (start, stop - 1, self.size):
            raise self._refused(f"the server sent {told_range.group()}", start, stop)
        self._recognise(answer.headers.get("ETag", "").removeprefix("W/"), start, stop)

    def _recognise(self, etag: str, start: int, stop: int) -> None:
        """Refuse another file than the one that was read from before; once, a fresh address may lead back to it."""
        if self._etag is not None and etag != self._etag:
            if self._doubted:
                raise self._refused("the file changed while it was read", start, stop)
            self._doubted = True
            raise _Again("the file changed while it was read", stale=True)
        self._etag, self._doubted = etag, False

    def _located(self) -> _Address:
        """The file's address, asked for once; the Hub must mean the file that was pinned. Raises HubError, _Again."""
        with self._asking:
            if self._address is None:
                self._address = self._asked()
            return self._address

    def _asked(self) -> _Address:
        from huggingface_hub import get_hf_file_metadata

        what = f"{self._file.path} of {self._pinned}"
        url = f"{self._hub.endpoint}/{self._pinned.repository}/resolve/{self._pinned.commit}/{quote(self._file.path)}"
        try:
            found = get_hf_file_metadata(
                url, token=self._hub.token or False, endpoint=self._hub.endpoint, timeout=PATIENCE
            )
        except Exception as error:
            if is_passing(error):
                raise _Again(f"{type(error).__name__}: {error}") from None
            raise told(error, what) from None
        if found.size not in (None, self.size) or found.etag not in (None, self._file.identity):
            raise HubError(
                f"{what} is not what it was when its repository was listed",
                must_be=f"{self.size:,} bytes, {self._file.identity}",
                fix="run the same command again; somebody changed the repository, or a mirror is out of date",
            )
        ours = _origin(found.location) == _origin(self._hub.endpoint)
        return _Address(found.location, ours, found.xet_file_data)

    def _refused(self, reason: str, start: int, stop: int) -> HubError:
        return HubError(
            f"bytes {start:,} to {stop:,} of {self._file.path} cannot be had: {redacted(reason)[:300]}",
            where=str(self._pinned),
            fix="run the same command again, or with --fetch shards, which fetches whole files and checks them",
        )


class ExactBytes:
    """The same file for reading its header: what is asked for is fetched, and not a byte of weights more."""

    def __init__(self, ranges: RangeBytes):
        self.size = ranges.size
        self._ranges = ranges

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the buffer from position `start`. Raises HubError."""
        buffer[:] = self._ranges.fetch_exactly(start, start + len(buffer))

    def advise(self, start: int, nbytes: int) -> None:
        """Nothing is fetched ahead."""

    def close(self) -> None:
        """Nothing is held."""


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
