"""Finished tensors, one line each, so that a run that was killed goes on where it stopped.

The first line names the plan and the layout. A line is written after the last byte of its tensor; a torn last line is
ignored. A shard that was sent elsewhere has a line too, after those of its tensors. Contents are checked against the
recorded digests before they are trusted, since a power cut may keep the journal and lose the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import IO, Any

from merging.engine.delivery import Sent
from merging.engine.ledger import Row

FORMAT = 1


class Journal:
    """Append-only record of a run: `merged` and `spooled` rows by output tensor, `sent` files by name."""

    def __init__(self, path: Path, head: Mapping[str, Any]):
        self._path = path
        self._head = {"format": FORMAT, **head}
        self.merged: dict[str, Row] = {}
        self.spooled: dict[str, Row] = {}
        self.sent: dict[str, Sent] = {}
        self._writing = Lock()
        self._file: IO[str] | None = None

    def load(self) -> bool:
        """Read what an earlier run left; False when there is nothing that belongs to this plan and layout."""
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, UnicodeDecodeError):
            return False
        entries = [entry for entry in map(_parsed, lines) if entry is not None]
        if not entries or entries[0] != self._head:
            return False
        for entry in entries[1:]:
            stage = entry.pop("stage", None)
            if stage == "sent":
                self.sent[entry["path"]] = Sent(**entry)
            else:
                (self.spooled if stage == "spool" else self.merged)[entry["tensor"]] = entry
        return True

    def begin(self) -> None:
        """Open for appending: rewritten with what `load` found, so that a torn line never precedes a good one."""
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self._head) + "\n")
            file.writelines(json.dumps({**row, "stage": "spool"}) + "\n" for row in self.spooled.values())
            file.writelines(json.dumps(row) + "\n" for row in self.merged.values())
            file.writelines(json.dumps({**asdict(sent), "stage": "sent"}) + "\n" for sent in self.sent.values())
        fresh.replace(self._path)
        self._file = self._path.open("a", encoding="utf-8")

    def add(self, row: Row, spooled: bool) -> None:
        """Record a finished tensor."""
        (self.spooled if spooled else self.merged)[row["tensor"]] = row
        self._append({**row, "stage": "spool"} if spooled else row)

    def add_sent(self, sent: Sent) -> None:
        """Record a file that has arrived where it was sent; all its tensors are recorded."""
        self.sent[sent.path] = sent
        self._append({**asdict(sent), "stage": "sent"})

    def _append(self, entry: Mapping[str, Any]) -> None:
        with self._writing:
            assert self._file is not None
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file; what is in it stays."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def stored_head(path: Path) -> dict[str, Any] | None:
    """The first line of a journal, without its format; None where there is no readable one."""
    try:
        with path.open(encoding="utf-8") as file:
            head = _parsed(file.readline())
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return {key: value for key, value in head.items() if key != "format"} if head else None
