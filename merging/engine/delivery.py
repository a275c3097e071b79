"""Where merged weights go while they are made, instead of staying in the output folder: what a run asks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Sent:
    """A file whose bytes have arrived and that nobody sees yet; `mark` is what its place wants to remember of it."""

    path: str
    size: int
    sha256: str
    mark: str | None = None


class Stream(Protocol):
    """A file on its way, written strictly forward."""

    def write(self, block: memoryview) -> None:
        """The next bytes; they may be changed once this returns."""
        ...

    def finish(self) -> Sent:
        """Wait until all bytes have arrived."""
        ...

    def abort(self) -> None:
        """Give the file up; nothing of it stays."""
        ...


class Delivery(Protocol):
    """A place that takes files one by one and shows them together at the end, or never."""

    @property
    def place(self) -> str:
        """What people call it: a repository."""
        ...

    @property
    def keeps_weights(self) -> bool:
        """Whether the weights stay in the output folder as well."""
        ...

    def begin(self, files: Sequence[str], record: Mapping[str, Any]) -> Sequence[str]:
        """Prepare for weight files and an index of these names; returns what one should know before they are shown.

        `record` is what the merge's record will say of recipe and models. Raises MergingError where that is refused.
        """
        ...

    def stream(self, path: str, size: int) -> Stream | None:
        """A file that is sent while it is made; None where only whole files can be sent."""
        ...

    def send(self, path: str, local: Path) -> Sent:
        """Send a whole file; sending what is there already costs little."""
        ...

    def holds(self, sent: Sent) -> bool:
        """Whether what an earlier run sent is still there."""
        ...

    def describe(self, folder: Path, record: Mapping[str, Any]) -> Mapping[str, bytes]:
        """Files that tell people what this is, by name; `folder` holds config and ledger."""
        ...

    def publish(self, sent: Sequence[Sent], small: Mapping[str, bytes]) -> Mapping[str, Any]:
        """Show everything at once, and make sure of it; returns what the record says of it, with its address as "url".

        Doing it twice is harmless.
        """
        ...
