"""A merge that goes to the Hub while it is made: its weights file by file, and at the end one commit of everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from merging.engine.delivery import Sent, Stream
from merging.errors import raise_all
from merging.hub.client import Hub
from merging.publish.carded import with_card_files
from merging.publish.destination import Target, look
from merging.publish.manifest import Manifest
from merging.publish.obstacles import ambiguous, notices, occupied, stale_weights, text_there
from merging.publish.readme import MERGE, README, with_card
from merging.publish.upload import Publication


class HubDelivery:
    """The delivery of one run to a repository, see merging/engine/delivery.py.

    `begin` looks at rights, and at what is in the way, before it makes a repository or a branch that is missing.
    """

    def __init__(self, hub: Hub, target: Target, *, keeps_weights: bool = False):
        self._hub = hub
        self._target = target
        self._keeps_weights = keeps_weights
        self._readme: str | None = None
        self._message = ""
        self._begun: Publication | None = None

    @property
    def place(self) -> str:
        """The repository, and how it is written to."""
        return str(self._target)

    @property
    def keeps_weights(self) -> bool:
        """Whether the weights stay in the output folder as well."""
        return self._keeps_weights

    def begin(self, files: Sequence[str], record: Mapping[str, Any]) -> Sequence[str]:
        """See what is there and refuse what would end badly, then make what is missing; returns what one should know.

        Raises HubError, or Problems with all that is in the way.
        """
        there = look(self._hub, self._target)
        self._readme = text_there(self._hub, there, README)
        _, merge = with_card(self._readme, "# Card\n")
        fix = "merge into a folder and use `merging push --replace`"
        in_the_way = ambiguous(self._target, stale_weights(there, files), fix)
        raise_all([*in_the_way, *occupied(self._hub, there, [MERGE] if merge else [])])
        told = list(notices(record, self._target, there))
        self._message = f"Merge by {record['recipe'].get('merge_method', 'merging')}, with merging"
        self._begun = Publication.open(self._hub, self._target, there)
        return told

    def stream(self, path: str, size: int) -> Stream | None:
        """A file sent by Xet while it is made; None where that cannot be had."""
        return self._publication.stream(path, size)

    def send(self, path: str, local: Path) -> Sent:
        """Send a file from disk. Raises HubError."""
        return self._publication.send(path, local)

    def holds(self, sent: Sent) -> bool:
        """Whether the Hub still has what an earlier run sent. Raises HubError."""
        return self._publication.holds(sent)

    def describe(self, folder: Path, record: Mapping[str, Any]) -> Mapping[str, bytes]:
        """Card and picture as they will stand in the repository; a README that a person wrote keeps every letter.

        Raises HubError where the Hub would not take the card.
        """
        made = with_card_files(Manifest(folder, (), (), record), self._target.repository, self._readme)
        cards = {entry.path: entry.content for entry in made.entries if entry.content is not None}
        if README in cards:
            self._publication.check_card(cards[README])
        return cards

    def publish(self, sent: Sequence[Sent], small: Mapping[str, bytes]) -> Mapping[str, Any]:
        """Make one commit of everything and compare its files with what was sent; returns what the record says of it.

        Where the branch holds all of it already, as after a run that was killed in between, nothing is committed.
        Raises HubError.
        """
        made = self._publication.commit(sent, small, self._message)
        self._publication.verify(made, {**{each.path: each for each in sent}, **small})
        return asdict(made)

    @property
    def _publication(self) -> Publication:
        assert self._begun is not None, "begin comes first"
        return self._begun
