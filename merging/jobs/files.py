"""Small files of a job: replaced whole, appended line by line, read whatever state a crash has left them in."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

# What is read of a file of lines at once, from its end, and at most.
CHUNK_BYTES, MOST_BYTES = 1 << 16, 1 << 26
HIDDEN = "[token]"
_TOKEN = re.compile(r"hf_(?:oauth|jwt)_[\w.-]{8,}|hf_[A-Za-z0-9]{8,}")
_SECRET_NAME = re.compile(r"(TOKEN|API_?KEY|SECRET|PASSWORD)$", re.IGNORECASE)
_SHORTEST_SECRET = 8


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is no file or half of one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def replace_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a file so that a reader sees the old or the new one; in place where the disk has no room for both.

    Raises OSError where neither can be.
    """
    content = (json.dumps(data) + "\n").encode()
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        fresh.write_bytes(content)
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        # The blocks of the old file are ours already, so that a full disk does not hide how a job ended.
        with path.open("r+b") as file:
            file.write(content)
            file.truncate()


def read_lines(path: Path, last: int | None = None) -> list[dict[str, Any]]:
    """The objects in a file of lines, oldest first, or the `last` of them; torn lines are left out."""
    try:
        with path.open("rb") as file:
            lines = _tail(file, last) if last is not None else file.read(MOST_BYTES).splitlines()
    except OSError:
        return []
    found = [entry for entry in map(_parsed, lines) if entry is not None]
    return found if last is None else found[max(0, len(found) - last) :]


def lines_from(path: Path, position: int) -> tuple[list[dict[str, Any]], int]:
    """The objects in whole lines from a byte on, and the byte where those not yet written will begin."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            whole, end, _ = file.read().rpartition(b"\n")
    except OSError:
        return [], position
    found = [entry for entry in map(_parsed, whole.splitlines()) if entry is not None]
    return found, position + len(whole) + len(end)


def _tail(file: Any, last: int) -> list[bytes]:
    """At least the `last` lines of a file, and perhaps a part of the one before them."""
    position = file.seek(0, os.SEEK_END)
    held = b""
    while position and held.count(b"\n") <= last + 1 and len(held) < MOST_BYTES:
        start = max(0, position - CHUNK_BYTES)
        file.seek(start)
        held = file.read(position - start) + held
        position = start
    return held.splitlines()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


class Lines:
    """A file of JSON lines, open for appending; what the disk refuses is counted in `lost` and never raised."""

    def __init__(self, path: Path):
        self._path = path
        self.lost = 0
        self._file: int | None = None
        with suppress(OSError):
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            self._end_torn_line()

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append one object as a line, in one write."""
        try:
            if self._file is None:
                raise OSError("the file is not open")
            os.write(self._file, without_tokens(json.dumps(entry, default=str) + "\n").encode())
        except OSError:
            self.lost += 1

    def close(self) -> None:
        """Close the file; what is in it stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _end_torn_line(self) -> None:
        """A line that a killed writer left half must not run into ours."""
        assert self._file is not None
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")


def secrets() -> list[str]:
    """Values of the environment that must never be written down."""
    named = {value for name, value in os.environ.items() if _SECRET_NAME.search(name)}
    return sorted((value for value in named if len(value) >= _SHORTEST_SECRET), key=len, reverse=True)


def without_tokens(text: str) -> str:
    """The text with every access token replaced: those of the Hub by their look, others by the environment."""
    for secret in secrets():
        text = text.replace(secret, HIDDEN)
    return _TOKEN.sub(HIDDEN, text)
