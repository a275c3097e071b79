"""A place for weights in memory: what it holds and shows can be looked at, and it fails when it is told to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from merging.engine.delivery import Sent, Stream
from merging.errors import HubError


@dataclass
class Shelf:
    """Takes whole files, and streams where `streams` is true. `held` are the bytes that arrived, `shown` all files.

    Once `patience` files have arrived the next one fails, and with `torn` a stream only after some of its bytes.
    """

    streams: bool = False
    keeps_weights: bool = False
    patience: int = 1 << 30
    torn: bool = False
    refuses: bool = False
    place: str = "org/merged"
    held: dict[str, bytes] = field(default_factory=dict)
    shown: dict[str, bytes] = field(default_factory=dict)
    sends: list[str] = field(default_factory=list)
    most_on_disk: int = 0
    shows: int = 0
    begun: list[str] = field(default_factory=list)

    def begin(self, files: Sequence[str], record: Mapping[str, Any]) -> Sequence[str]:
        """Note the names."""
        if self.refuses:
            raise HubError("this token may not: write to org/merged")
        self.begun = list(files)
        return [f"published from {len(record['models'])} models"]

    def stream(self, path: str, size: int) -> Stream | None:
        """A stream that counts its bytes."""
        return _Stream(self, path, size) if self.streams else None

    def send(self, path: str, local: Path) -> Sent:
        """Take a copy."""
        on_disk = [file for file in local.parent.iterdir() if ".safetensors" in file.name]
        self.most_on_disk = max(self.most_on_disk, len(on_disk))
        return self.take(path, local.read_bytes())

    def take(self, path: str, content: bytes) -> Sent:
        """A file has come."""
        if len(self.held) >= self.patience:
            raise HubError(f"cannot reach the Hub: {path}")
        self.sends.append(path)
        self.held[path] = content
        return Sent(path, len(content), sha256(content).hexdigest(), "mark")

    def holds(self, sent: Sent) -> bool:
        """Whether the same bytes are there."""
        return sha256(self.held.get(sent.path, b"")).hexdigest() == sent.sha256 and sent.mark == "mark"

    def describe(self, folder: Path, record: Mapping[str, Any]) -> Mapping[str, bytes]:
        """A card."""
        ledger = (folder / "merging-ledger.jsonl").read_text().splitlines()
        return {"README.md": json.dumps([record["recipe"], len(ledger)]).encode()}

    def publish(self, sent: Sequence[Sent], small: Mapping[str, bytes]) -> Mapping[str, Any]:
        """Show everything."""
        assert all(self.holds(each) for each in sent)
        self.shown = {each.path: self.held[each.path] for each in sent} | dict(small)
        self.shows += 1
        return {"repository": self.place, "commit": "1" * 40, "url": "https://hub/org/merged"}


class _Stream:
    def __init__(self, shelf: Shelf, path: str, size: int):
        self._shelf, self._path, self._size = shelf, path, size
        self._content = bytearray()

    def write(self, block: memoryview) -> None:
        self._content += block
        if self._shelf.torn and len(self._shelf.held) >= self._shelf.patience and len(self._content) > self._size // 2:
            raise HubError(f"{self._path} cannot be sent on as it is made")

    def finish(self) -> Sent:
        assert len(self._content) == self._size
        return self._shelf.take(self._path, bytes(self._content))

    def abort(self) -> None:
        self._content.clear()


@dataclass
class KeptShelf(Shelf):
    """One that outlives the program, in a folder: `held/` and, all at once, `shown/`."""

    folder: Path = Path()

    def take(self, path: str, content: bytes) -> Sent:
        """A file has come, whole or not at all."""
        place = self.folder / "held" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.replace(place)
        with (self.folder / "sends").open("a") as log:
            log.write(f"{path}\n")
        return Sent(path, len(content), sha256(content).hexdigest(), "mark")

    def holds(self, sent: Sent) -> bool:
        """Whether the same bytes are there."""
        place = self.folder / "held" / sent.path
        return place.exists() and sha256(place.read_bytes()).hexdigest() == sent.sha256

    def publish(self, sent: Sequence[Sent], small: Mapping[str, bytes]) -> Mapping[str, Any]:
        """Show everything at once; what is shown stays."""
        if not (self.folder / "shown").exists():
            fresh = self.folder / "new"
            fresh.mkdir(exist_ok=True)
            for each in sent:
                (fresh / each.path).write_bytes((self.folder / "held" / each.path).read_bytes())
            for name, content in small.items():
                (fresh / name).write_bytes(content)
            fresh.replace(self.folder / "shown")
        return {"repository": self.place, "commit": "1" * 40, "url": "https://hub/org/merged"}
