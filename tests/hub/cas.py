"""Xet storage: files as runs of chunks in xorbs, up and down over HTTP as hf_xet speaks it.

A xorb is kept as it came; of its format only the lengths of chunks are read, of a shard only which file is made of
what. Chunks are never unpacked here: where plain bytes are wanted, hf_xet itself fetches them from this storage.
"""

from __future__ import annotations

import hashlib
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hub.wire import OWN_HEADER, Refusal

CHUNK_HEADER_BYTES = 8
ENTRY_BYTES = 48  # every record of a shard, its header as well
WITH_VERIFICATION, WITH_SHA256 = 1 << 31, 1 << 30


@dataclass(frozen=True)
class Xorb:
    """Chunks in a file: where each begins (and the last ends), and how long each is when unpacked."""

    place: Path
    offsets: tuple[int, ...]
    unpacked: tuple[int, ...]


@dataclass(frozen=True)
class Segment:
    """Chunks `first` to before `stop` of a xorb, a piece of a file."""

    xorb: str
    first: int
    stop: int


@dataclass(frozen=True)
class XetFile:
    """A file as Xet knows it."""

    hash: str
    size: int
    sha256: str | None
    segments: tuple[Segment, ...]


def hex_of(raw: bytes) -> str:
    """A hash as text: four little-endian numbers of eight bytes."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))


def chunks_of(content: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Offsets and unpacked lengths of the chunks of a xorb; what follows the last chunk is left out."""
    offsets, unpacked = [0], []
    while len(content) - offsets[-1] > CHUNK_HEADER_BYTES:
        head = content[offsets[-1] : offsets[-1] + CHUNK_HEADER_BYTES]
        if head[:7] == b"XETBLOB":
            break
        packed, whole = int.from_bytes(head[1:4], "little"), int.from_bytes(head[5:8], "little")
        offsets.append(offsets[-1] + CHUNK_HEADER_BYTES + packed)
        unpacked.append(whole)
    if offsets[-1] > len(content) or not unpacked:
        raise Refusal(400, "not a whole xorb")
    return tuple(offsets), tuple(unpacked)


def files_of(shard: bytes) -> Iterator[XetFile]:
    """The files that a shard describes."""
    at = ENTRY_BYTES
    while (raw := shard[at : at + 32]) != b"\xff" * 32:
        flags, count = struct.unpack_from("<2I", shard, at + 32)
        segments, size = [], 0
        for i in range(1, count + 1):
            start = at + i * ENTRY_BYTES
            _, length, first, stop = struct.unpack_from("<4I", shard, start + 32)
            segments.append(Segment(hex_of(shard[start : start + 32]), first, stop))
            size += length
        at += (1 + count * (2 if flags & WITH_VERIFICATION else 1)) * ENTRY_BYTES
        sha256 = None
        if flags & WITH_SHA256:
            sha256 = hex_of(shard[at : at + 32])
            at += ENTRY_BYTES
        yield XetFile(hex_of(raw), size, sha256, tuple(segments))


@dataclass
class Cas:
    """All xorbs and files of one Hub, kept in a folder."""

    folder: Path
    own: str  # what tells our own requests to ourselves from those of clients
    address: str = ""
    own_address: str = ""  # hf_xet remembers by address what it sent: clients shall not profit from what we sent
    grant: Callable[[int], str] = str  # a token for writing, until a time
    xorbs: dict[str, Xorb] = field(default_factory=dict)
    files: dict[str, XetFile] = field(default_factory=dict)
    by_sha256: dict[str, XetFile] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._session: Any = None

    def take_xorb(self, name: str, content: bytes) -> bool:
        """Keeps a xorb; whether it was new."""
        offsets, unpacked = chunks_of(content)
        with self.lock:
            if name in self.xorbs:
                return False
            place = self.folder / name
            place.write_bytes(content)
            self.xorbs[name] = Xorb(place, offsets, unpacked)
            return True

    def take_shard(self, shard: bytes) -> None:
        """Takes in the files of a shard; all of their xorbs must be here."""
        described = list(files_of(shard))
        for file in described:
            for segment in file.segments:
                if segment.xorb not in self.xorbs or segment.stop >= len(self.xorbs[segment.xorb].offsets):
                    raise Refusal(400, f"xorb {segment.xorb} does not have chunks up to {segment.stop}")
        with self.lock:
            self.files |= {file.hash: file for file in described}
            self.by_sha256 |= {file.sha256: file for file in described if file.sha256}

    def pieces(self, file: XetFile, start: int, stop: int) -> tuple[int, list[tuple[Segment, int]]]:
        """The chunks that hold bytes `start` to `stop` of a file.

        Gives how many bytes of the first chunk come before `start`, and each run of chunks with its unpacked length.
        """
        found, skipped, at = [], None, 0
        for segment in file.segments:
            unpacked = self.xorbs[segment.xorb].unpacked
            wanted = []
            for i in range(segment.first, segment.stop):
                if at < stop and at + unpacked[i] > start:
                    skipped = start - at if skipped is None else skipped
                    wanted.append(i)
                at += unpacked[i]
            if wanted:
                run = Segment(segment.xorb, wanted[0], wanted[-1] + 1)
                found.append((run, sum(unpacked[i] for i in wanted)))
        return max(0, skipped or 0), found

    def store(self, content: bytes | Path) -> str:
        """Puts a file of our own in, by way of hf_xet; gives its hash."""
        with self._talk("new_upload_commit") as commit:
            if isinstance(content, bytes):
                task = commit.start_upload_bytes(content)
            else:
                task = commit.start_upload_file(str(content))
        return str(task.result().xet_info.hash)

    def fetch(self, sha256: str) -> Path | None:
        """Writes a file out in plain bytes, by way of hf_xet; None where there is none of this sha256."""
        import hf_xet

        if (file := self.by_sha256.get(sha256)) is None:
            return None
        place = self.folder / f"plain-{sha256}"
        with self._talk("new_file_download_group") as group:
            group.start_download_file(hf_xet.XetFileInfo(file.hash, file.size), str(place))
        with place.open("rb") as written:
            if hashlib.file_digest(written, "sha256").hexdigest() != sha256:
                raise Refusal(500, f"the file of sha256 {sha256} was uploaded as Xet file {file.hash} of other bytes")
        return place

    @contextmanager
    def _talk(self, kind: str) -> Iterator[Any]:
        import hf_xet

        with self.lock:
            if self._session is None:
                self._session = hf_xet.XetSession()
        open_ = getattr(self._session, kind)
        until = int(time.time()) + 3600
        headers = {OWN_HEADER: self.own}
        with open_(
            endpoint=self.own_address, token=self.grant(until), token_expiry_unix_secs=until, custom_headers=headers
        ) as it:
            yield it
