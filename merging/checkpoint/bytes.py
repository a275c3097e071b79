"""One byte source: positional reads that several threads may make at once.

Files are read, not mapped: a file that is cut short while it is read gives an error instead of a fatal signal.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from ctypes import c_char
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Protocol
from weakref import ReferenceType, ref

from merging.errors import CheckpointError, OutputError
from merging.lazy import Tensor

# Files that stay open in the whole program; the usual limit of a process is 1024, and 8 models of 163 shards exceed it.
OPEN_LIMIT = 256
SAMPLES = 64
SAMPLE_BYTES = 4096
# Hashing this much whole costs less than 64 scattered reads from a slow disk.
WHOLE_BYTES = 8 << 20
_STRIDE = 1 << 20
# Linux 6.14 and later: write without keeping the pages. New pages of the cache cost more than the arithmetic on them.
RWF_DONTCACHE = 0x80
STREAMED_BYTES = 1 << 15
# Emptied for good by the first file system that refuses.
_streaming = [True] if hasattr(os, "pwritev") else []


class ByteSource(Protocol):
    """Bytes addressed by position: a local file, later an HTTP or Xet range."""

    @property
    def size(self) -> int:
        """Number of bytes."""
        ...

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the buffer from position `start`. Raises CheckpointError when it cannot be filled to its end."""
        ...

    def advise(self, start: int, nbytes: int) -> None:
        """Say that a range will be read soon."""
        ...

    def close(self) -> None:
        """Let go of what is held open; a later read opens it again."""
        ...


class Descriptor:
    """An open file of the operating system, closed once nobody refers to it: never under a thread that is reading."""

    __slots__ = ("__weakref__", "number")

    def __init__(self, path: Path, flags: int):
        self.number = -1
        self.number = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


class OpenFile:
    """A file opened on first use; of all of them the OPEN_LIMIT most recently opened stay open."""

    def __init__(self, path: Path, flags: int):
        self.path = path
        self._flags = flags
        self._descriptor: Descriptor | None = None

    def descriptor(self) -> Descriptor:
        """The open file; whoever holds on to it may use its number."""
        return self._descriptor or self._open()

    def close(self) -> None:
        """Let go of the open file."""
        self._descriptor = None

    def _open(self) -> Descriptor:
        descriptor = Descriptor(self.path, self._flags)
        self._descriptor = descriptor
        with _opening:
            _opened.append(ref(self))
            while len(_opened) > OPEN_LIMIT:
                oldest = _opened.popleft()()
                if oldest is not None:
                    oldest.close()
        return descriptor


_opening = Lock()
_opened: deque[ReferenceType[OpenFile]] = deque()


class LocalBytes(OpenFile):
    """A local file, followed through links; the caller has decided that it may be."""

    def __init__(self, path: Path):
        # O_NONBLOCK: a pipe put in the place of the file cannot hold us up.
        super().__init__(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            status = path.stat()
        except OSError as error:
            raise CheckpointError(f"cannot open {path}: {error.strerror}") from None
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path} is not a file", must_be="a regular file")
        self.size = status.st_size
        self._identity = (status.st_dev, status.st_ino, status.st_size)

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the buffer from position `start`. Raises CheckpointError when the file ends or fails before."""
        descriptor = self._descriptor or self._open()
        try:
            done = os.preadv(descriptor.number, (buffer,), start)
            while done < len(buffer):
                more = os.preadv(descriptor.number, (buffer[done:],), start + done)
                if not more:
                    raise CheckpointError(
                        f"{self.path} ended at byte {start + done:,}, {len(buffer) - done:,} bytes too early",
                        must_be=f"{self.size:,} bytes long, as when it was opened",
                        fix="fetch the file again; something shortened it while it was read",
                    )
                done += more
        except OSError as error:
            raise CheckpointError(f"cannot read {self.path} at byte {start:,}: {error.strerror}") from None

    def advise(self, start: int, nbytes: int) -> None:
        """Have the kernel read a range ahead, unless it seems to hold it already."""
        if nbytes > 0 and hasattr(os, "posix_fadvise") and not self._is_held(start + nbytes - 1):
            with suppress(OSError):
                os.posix_fadvise(self.descriptor().number, start, nbytes, os.POSIX_FADV_WILLNEED)

    def _is_held(self, position: int) -> bool:
        """Whether the kernel can give a byte without waiting; to ask costs 1 microsecond, to advise in vain 100."""
        if not hasattr(os, "RWF_NOWAIT"):
            return False
        try:
            return os.preadv(self.descriptor().number, (bytearray(1),), position, os.RWF_NOWAIT) == 1
        except OSError:
            return False

    def _open(self) -> Descriptor:
        try:
            descriptor = super()._open()
        except OSError as error:
            full = error.errno in (errno.EMFILE, errno.ENFILE)
            fix = "raise the limit of open files with `ulimit -n 4096`" if full else None
            raise CheckpointError(f"cannot open {self.path}: {error.strerror}", fix=fix) from None
        status = os.fstat(descriptor.number)
        if (status.st_dev, status.st_ino, status.st_size) != self._identity:
            self.close()
            raise CheckpointError(
                f"{self.path} has been replaced since its header was read", fix="start again, with files at rest"
            )
        return descriptor


def entries_memory(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous cpu tensor, without a copy; the caller keeps the tensor alive."""
    nbytes = tensor.numel() * tensor.element_size()
    # ctypes reaches the memory in 1 microsecond; a numpy view of a bf16 tensor takes 4.
    return memoryview((c_char * nbytes).from_address(tensor.data_ptr())).cast("B") if nbytes else memoryview(b"")


def write_at(file: OpenFile, start: int, memory: memoryview, what: str) -> None:
    """Write all bytes at a position. Raises OutputError saying how many bytes did not fit."""
    done = 0
    try:
        descriptor = file.descriptor()
        while done < len(memory):
            done += _write(descriptor.number, memory[done:], start + done)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
        reason = "no space left on the disk" if full else error.strerror
        raise OutputError(
            f"{reason}: {len(memory) - done:,} bytes of {what} could not be written",
            where=str(file.path),
            fix="free space there and run the same command again; it goes on from here" if full else None,
        ) from None


def _write(number: int, memory: memoryview, start: int) -> int:
    """Write some of the bytes; where the kernel can, its copies of them are let go as soon as they are on the disk."""
    if len(memory) >= STREAMED_BYTES and _streaming:
        try:
            return os.pwritev(number, [memory], start, RWF_DONTCACHE)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            _streaming.clear()
    return os.pwrite(number, memory, start)


def sampled_digest(source: ByteSource, start: int, places: Iterable[int] = ()) -> bytes:
    """SHA-256 of evenly spread samples of everything from `start` on, its first and last bytes included.

    `places` are further positions of which 64 bytes each are taken. Up to WHOLE_BYTES everything is hashed.
    """
    end = source.size
    if end - start <= WHOLE_BYTES:
        ranges = [(at, min(at + _STRIDE, end)) for at in range(start, end, _STRIDE)]
    else:
        last = end - SAMPLE_BYTES
        evenly = (start + (last - start) * i // (SAMPLES - 1) for i in range(SAMPLES))
        ranges = [(at, at + SAMPLE_BYTES) for at in evenly]
        ranges += [(at, min(at + 64, end)) for at in places]
    digest = sha256(end.to_bytes(8, "little"))
    buffer = memoryview(bytearray(_STRIDE))
    for first, stop in ranges:
        source.read_into(first, buffer[: stop - first])
        digest.update(buffer[: stop - first])
    return digest.digest()
