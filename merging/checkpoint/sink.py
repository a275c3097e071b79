"""Where merged tensors go: positional writes to `.partial` files, sealed by rename.

Every file has its full size and its header from the start, so blocks may arrive in any order and more than once; what
was never written reads as zeros. Nothing is written through a link.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Protocol

from merging.checkpoint.bytes import OpenFile, entries_memory, write_at
from merging.checkpoint.layout import INDEX_NAME, FileLayout, Layout
from merging.checkpoint.tensors import TensorSpec, torch_dtype
from merging.errors import MergingError, OutputError, raise_all
from merging.lazy import Tensor, torch

PARTIAL = ".partial"
# Blocks of one file that may wait while another thread writes to it.
WAITING_BLOCKS = 64
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


class Sink(Protocol):
    """Takes the blocks of all output tensors, in any order, each once or more, from several threads."""

    def write(self, name: str, start: int, block: Tensor) -> None:
        """Entries from `start` on: one axis, cpu, in the stored dtype; raw uint8 for a dtype of less than a byte.

        The block belongs to the sink from then on.
        """
        ...

    def settle(self, name: str) -> None:
        """Return once everything given for a tensor is written."""
        ...

    def seal(self) -> list[Path]:
        """Make the output whole; returns its files. Sealing twice is harmless."""
        ...


class ShardSink:
    """Writes safetensors files into a folder.

    The kernel lets one thread at a time write to a file, and the others spin. Here they leave their block to the one
    that is writing and go on computing.

    With `resume`, files of an earlier run are kept if header and size are those of the layout, `.partial` ones and ones
    already renamed by a seal that was interrupted; all others are begun afresh. What the kept files hold is not checked
    here: see `read_back`.
    """

    def __init__(self, folder: Path, layout: Layout, *, resume: bool = True):
        self.folder = Path(folder)
        self.layout = layout
        self._sealed = False
        self._make_folder()
        names = [name for file in layout.files for name in (file.name, file.name + PARTIAL)]
        self._refuse_obstacles([*names, INDEX_NAME, INDEX_NAME + PARTIAL])
        self._files = tuple(self._prepare(file, resume) for file in layout.files)
        self._waiting: tuple[deque[tuple[int, str, Tensor]], ...] = tuple(deque() for _ in self._files)
        self._writing = tuple(Lock() for _ in self._files)
        self._places = {}
        for name, spec in layout.specs.items():
            i, first = layout.place(name)
            width = spec.nbytes // spec.length if spec.length else 1
            self._places[name] = (i, first, width, spec.length, spec.dtype)

    def write(self, name: str, start: int, block: Tensor) -> None:
        """Put entries from `start` on at their final place. Raises OutputError when the disk refuses."""
        if self._sealed:
            raise ValueError(f"{self.folder} is sealed")
        i, first, width, length, dtype = self._places[name]
        count = block.numel()
        _check_block(name, start, block, length, dtype)
        if count:
            self._waiting[i].append((first + start * width, name, block.contiguous()))
            self._write_waiting(i, wait=len(self._waiting[i]) > WAITING_BLOCKS)

    def settle(self, name: str) -> None:
        """Return once everything given for a tensor is written. Raises OutputError when the disk refuses."""
        self._write_waiting(self._places[name][0], wait=True)

    def _write_waiting(self, i: int, wait: bool) -> None:
        """Write what waits for a file, unless another thread is at it."""
        waiting, writing = self._waiting[i], self._writing[i]
        if not writing.acquire(blocking=wait):
            return
        try:
            while waiting:
                position, name, block = waiting.popleft()
                write_at(self._files[i], position, entries_memory(block), f"tensor {name!r}")
        finally:
            writing.release()

    def read_back(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Entries [start, stop) as they are in the files now, written or not."""
        i, first, width, length, dtype = self._places[name]
        file = self._files[i]
        stop = length if stop is None else stop
        entries = torch.empty(stop - start, dtype=torch_dtype(dtype))
        memory = entries_memory(entries)
        done = 0
        descriptor = file.descriptor()
        while done < len(memory):
            more = os.preadv(descriptor.number, (memory[done:],), first + start * width + done)
            if not more:
                raise OutputError(f"{file.path} has become shorter while it was written")
            done += more
        return entries

    def seal(self) -> list[Path]:
        """Flush, rename, write the index, flush the folder. Raises OutputError."""
        paths = [self.folder / file.name for file in self.layout.files]
        for i in range(len(self._files)):
            self._write_waiting(i, wait=True)
        try:
            for file, place in zip(self._files, self.layout.files, strict=True):
                _flush(file, place.size)
            for file, path in zip(self._files, paths, strict=True):
                if file.path != path:
                    file.path.replace(path)
                    file.path = path
                    file.close()
            index = self.layout.index_json()
            if index is not None:
                paths.append(write_whole(self.folder / INDEX_NAME, index))
            _flush_folder(self.folder)
            self._sealed = True
        except OSError as error:
            raise OutputError(f"cannot finish the files in {self.folder}: {error.strerror}") from None
        return paths

    def discard(self) -> None:
        """Remove the files, partial or sealed."""
        for file, place in zip(self._files, self.layout.files, strict=True):
            file.close()
            for name in (place.name, place.name + PARTIAL):
                (self.folder / name).unlink(missing_ok=True)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {self.folder}: {error.strerror}") from None

    def _refuse_obstacles(self, names: Iterable[str]) -> None:
        problems: list[MergingError] = []
        for name in names:
            path = self.folder / name
            with suppress(FileNotFoundError):
                if not stat.S_ISREG(path.lstat().st_mode):
                    problems.append(
                        OutputError(f"{path} is a link or no file", fix="remove it, or name another folder")
                    )
        raise_all(problems)

    def _prepare(self, file: FileLayout, resume: bool) -> OpenFile:
        partial, final = self.folder / (file.name + PARTIAL), self.folder / file.name
        if resume and not partial.exists() and _fits(final, file):
            final.replace(partial)
        if not (resume and _fits(partial, file)):
            fresh = OpenFile(partial, os.O_RDWR | os.O_CREAT | _NOFOLLOW)
            try:
                descriptor = fresh.descriptor()
                os.ftruncate(descriptor.number, 0)
                os.ftruncate(descriptor.number, file.size)
            except OSError as error:
                raise OutputError(f"cannot make {partial} of {file.size:,} bytes: {error.strerror}") from None
            write_at(fresh, 0, memoryview(file.header), f"the header of {file.name}")
        return OpenFile(partial, os.O_RDWR | _NOFOLLOW)


class MemorySink:
    """Keeps the output in memory."""

    def __init__(self, specs: Iterable[TensorSpec]):
        self._specs = {spec.name: spec for spec in specs}
        self._entries = {
            name: torch.zeros(spec.length, dtype=torch_dtype(spec.dtype)) for name, spec in self._specs.items()
        }

    def write(self, name: str, start: int, block: Tensor) -> None:
        """Copy entries from `start` on."""
        spec = self._specs[name]
        _check_block(name, start, block, spec.length, spec.dtype)
        self._entries[name][start : start + block.numel()] = block

    def settle(self, name: str) -> None:
        """Nothing waits."""

    def read_back(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Entries [start, stop) as they are now."""
        return self._entries[name][start:stop]

    def seal(self) -> list[Path]:
        """Nothing is on disk."""
        return []

    def tensors(self) -> dict[str, Tensor]:
        """All tensors in their shapes; a dtype of less than a byte as raw bytes."""
        return {
            name: entries.reshape(self._specs[name].shape) if len(entries) == self._specs[name].entries else entries
            for name, entries in self._entries.items()
        }


class NullSink:
    """Forgets everything; for measuring."""

    def write(self, name: str, start: int, block: Tensor) -> None:
        """Nothing."""

    def settle(self, name: str) -> None:
        """Nothing waits."""

    def seal(self) -> list[Path]:
        """No files."""
        return []


def require_space(folder: Path, nbytes: int) -> None:
    """Raise OutputError unless so many bytes are free where the folder is or will be."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    free = os.statvfs(place)
    available = free.f_bavail * free.f_frsize
    if available < nbytes:
        raise OutputError(
            f"the output needs {nbytes:,} bytes, {available:,} are free",
            where=str(place),
            fix=f"free {nbytes - available:,} bytes there, or name a folder on another disk",
        )


def write_whole(path: Path, content: bytes) -> Path:
    """Write a small file so that a reader sees the old or the new one, never a part. Raises OutputError."""
    if path.is_symlink():
        raise OutputError(f"{path} is a link", fix="remove it, or name another folder")
    fresh = path.with_name(path.name + PARTIAL)
    with suppress(FileNotFoundError):
        fresh.unlink()
    try:
        file = OpenFile(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW)
        write_at(file, 0, memoryview(content), path.name)
        os.fsync(file.descriptor().number)
        file.close()
        fresh.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    return path


def _check_block(name: str, start: int, block: Tensor, length: int, dtype: str) -> None:
    fits = block.dim() == 1 and 0 <= start <= length - block.numel()
    if not fits or block.dtype != torch_dtype(dtype) or not block.is_cpu:
        raise ValueError(f"{name!r}, {length} entries of {dtype}, cannot take {block.shape} {block.dtype} at {start}")


def _fits(path: Path, file: FileLayout) -> bool:
    """Whether a file from an earlier run has the size and header of the layout."""
    if not path.exists() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as opened:
        return opened.read(len(file.header)) == file.header


def _flush(file: OpenFile, size: int) -> None:
    descriptor = file.descriptor()
    held = os.fstat(descriptor.number).st_size
    if held != size:
        raise OutputError(f"{file.path} has {held:,} bytes instead of {size:,}", fix="run the same command again")
    os.fsync(descriptor.number)


def _flush_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
