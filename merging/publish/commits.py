"""Making a commit exactly once, though its answer may be lost: what the Hub has is compared with what was wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha1, sha256

from merging.engine.delivery import Sent
from merging.errors import HubError
from merging.hub.answers import is_passing, patiently, rest, status_of
from merging.hub.client import Hub, Pinned, RemoteFile
from merging.hub.names import HubName
from merging.publish.destination import MAIN, PULLS, STALE, Destination, Target, heads_of, moved, refused


@dataclass(frozen=True)
class Published:
    """A commit that the Hub has; `pull_request` is the address of the pull request that it opened."""

    repository: str
    commit: str
    url: str
    pull_request: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What a commit shall bring about: files as they were sent or with their contents, and files that are gone."""

    files: Mapping[str, Sent | bytes]
    gone: tuple[str, ...] = ()

    def faults(self, there: Mapping[str, RemoteFile]) -> list[str]:
        """How a state of the repository differs from it, file by file."""
        wrong = [fault for path, each in self.files.items() if (fault := _fault(path, each, there.get(path)))]
        return wrong + [f"{path} is still there" for path in self.gone if path in there]


def _fault(path: str, wanted: Sent | bytes, there: RemoteFile | None) -> str | None:
    size = len(wanted) if isinstance(wanted, bytes) else wanted.size
    if there is None:
        return f"{path} is missing"
    if there.size != size:
        return f"{path} has {there.size:,} bytes, not {size:,}"
    if isinstance(wanted, Sent):
        same = there.sha256 == wanted.sha256
    elif there.sha256:
        same = there.sha256 == sha256(wanted).hexdigest()
    else:
        same = there.blob == _git_digest(wanted)
    return None if same else f"{path} has another content"


def _git_digest(content: bytes) -> str:
    """What git calls a file of this content."""
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Commits:
    """The commits of one publication; `found` is what was there when it began."""

    hub: Hub
    target: Target
    found: Destination

    def known(self, wanted: Wanted) -> Published | None:
        """The commit that holds all of it already: the head, or the newest pull request if that is open."""
        head = self.found.pinned
        if head and not wanted.faults(head.files):
            return self._published(head.commit)
        newest = max((int(ref.removeprefix(PULLS)) for ref in self.found.heads if ref.startswith(PULLS)), default=None)
        if newest is None or not self.target.pull_request:
            return None
        return self._same(self.found.heads[f"{PULLS}{newest}"], wanted, newest) if self._is_open(newest) else None

    def once(self, attempt: Callable[[], Published], wanted: Wanted) -> Published:
        """What `attempt` brings about, tried again only where nothing came of the try before. Raises HubError."""
        for wait in (*self.hub.waits, None):
            try:
                return attempt()
            except Exception as error:
                stale, passing = status_of(error) == STALE, is_passing(error)
                made = self._made(wanted) if stale or passing else None
                if made is not None:
                    return made
                if stale:
                    raise moved(self.target, self._heads().get(self._branch, "")) from None
                if wait is None or not passing:
                    raise refused(error, f"the commit to {self.target}") from None
                rest(wait, error)
        raise AssertionError("the last try either returns or raises")

    @property
    def _branch(self) -> str:
        return self.target.branch or MAIN

    def _heads(self) -> dict[str, str]:
        name = self.target.repository
        return patiently(self.hub.waits, lambda: heads_of(self.hub.api(), name), f"the branches of {name}", refused)

    def _made(self, wanted: Wanted) -> Published | None:
        """The commit that a try has made though it seemed to fail. Raises HubError where that cannot be told."""
        try:
            heads = self._heads()
        except HubError as error:
            raise HubError(
                f"the connection broke, and it cannot be told whether the commit to {self.target} was made",
                where=str(error),
                fix="run the same command again: it finds the commit if there is one, and makes no second one",
            ) from None
        if self.target.pull_request:
            fresh = [ref for ref in heads if ref.startswith(PULLS) and ref not in self.found.heads]
            candidates: list[tuple[str, int | None]] = [(heads[ref], int(ref.removeprefix(PULLS))) for ref in fresh]
        else:
            candidates = [(commit, None) for ref, commit in heads.items() if ref == self._branch]
        found = (self._same(commit, wanted, number) for commit, number in candidates if commit != self._start)
        return next((each for each in found if each), None)

    @property
    def _start(self) -> str | None:
        return self.found.pinned.commit if self.found.pinned else None

    def _same(self, commit: str, wanted: Wanted, number: int | None) -> Published | None:
        name = HubName(self.target.repository, commit)
        there: Pinned = self.hub.pin(name)
        return None if wanted.faults(there.files) else self._published(commit, number)

    def _published(self, commit: str, number: int | None = None) -> Published:
        url = f"{self.hub.endpoint}/{self.target.repository}"
        pull = None if number is None else f"{url}/discussions/{number}"
        return Published(self.target.repository, commit, f"{url}/commit/{commit}", pull)

    def _is_open(self, number: int) -> bool:
        name, api = self.target.repository, self.hub.api()
        what = f"pull request {number} of {name}"
        return bool(
            patiently(self.hub.waits, lambda: api.get_discussion_details(name, number).status, what, refused) == "open"
        )
