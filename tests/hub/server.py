"""The loopback Hub: start it, put models in, let real clients talk to it, look at what they did."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from unittest.mock import patch

from tests.hub import delivery, reading, settings, writing, xet
from tests.hub.access import User
from tests.hub.cas import Cas
from tests.hub.faults import Book, Fault, Request
from tests.hub.state import State, dispatch
from tests.hub.storage import Blob, Objects, Repository, git_blob, is_large, large_blob
from tests.hub.wire import Server

__all__ = ["Fault", "HubServer", "Request"]

OWNER = "tester"


def _new_token() -> str:
    return f"hf_{secrets.token_hex(17)}"


class HubServer:
    """A Hub on two ports of the loopback, for as long as the context lasts.

    `endpoint` ("http://127.0.0.1:…") is the Hub, `cdn` ("http://localhost:…", another origin) holds large files and
    takes uploads. Listings have `page` entries at most, uploads larger than `part_bytes` go in parts.

    `token` may write to every repository, `read_token` belongs to the same user and may not, `stranger_token` is a
    writer who owns nothing here. Leaving the context fails where the server itself went wrong.
    """

    def __init__(self, folder: Path, *, xet: bool = False, page: int = 1000, part_bytes: int = 64 << 20) -> None:
        self.folder = folder / f"hub-{secrets.token_hex(4)}"
        self.xet = xet
        self.token, self.read_token, self.stranger_token = _new_token(), _new_token(), _new_token()
        self.book = Book()
        tokens = {
            self.token: User(OWNER, "write", True),
            self.read_token: User(OWNER, "read", True),
            self.stranger_token: User("stranger", "write"),
        }
        self.state = State(Objects(self.folder / "objects"), tokens, page=page, part_bytes=part_bytes)
        self.state.xet = Cas(self.folder / "xet", self.book.own) if xet else None
        self._servers: list[Server] = []
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        hub = [*reading.ROUTES, *writing.ROUTES, *settings.ROUTES, *delivery.HUB_ROUTES, *xet.HUB_ROUTES]
        routes = {"hub": hub, "cdn": [*delivery.CDN_ROUTES, *xet.CDN_ROUTES]}
        for origin, table in routes.items():
            self._servers.append(Server(origin, self.book, partial(dispatch, self.state, table)))
        self.state.endpoint = f"http://127.0.0.1:{self._servers[0].server_port}"
        self.state.cdn = f"http://localhost:{self._servers[1].server_port}"
        if self.state.xet:
            # hf_xet looks up where its cache is whenever it opens a connection, in ours and in the client's name.
            self._cleanup.enter_context(patch.dict(os.environ, self.xet_environment(self.folder / "cache")))
            # hf_xet remembers by address what a storage has: no two storages may have the same.
            addresses = (f"{self.state.cdn}/cas/{secrets.token_hex(8)}" for _ in range(2))
            self.state.xet.address, self.state.xet.own_address = addresses
            self.state.xet.grant = partial(self.state.xet_token, "write")
            self.state.objects.elsewhere = self.state.xet.fetch
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        self._cleanup.close()
        mistakes = [text for server in self._servers for text in server.mistakes]
        if mistakes and kind is None:
            raise AssertionError("the loopback Hub itself went wrong:\n" + "\n".join(mistakes))

    def stop(self) -> None:
        """Ends both ports and all connections, as leaving the context does."""
        for server in self._servers:
            server.stop()

    @property
    def endpoint(self) -> str:
        """Where the Hub listens."""
        return self.state.endpoint

    @property
    def cdn(self) -> str:
        """The other origin, where large files lie."""
        return self.state.cdn

    @property
    def requests(self) -> list[Request]:
        """All requests in the order of their coming, to both origins."""
        return list(self.book.requests)

    def add(
        self,
        name: str,
        files: Mapping[str, bytes | Path],
        *,
        private: bool | None = None,
        gated: bool | str | None = None,
        branch: str = "main",
        message: str = "Add files",
    ) -> str:
        """Commits files to a repository, made where it is missing, and gives the commit.

        Paths are read where they lie, never copied, so they must not change. `gated=True` lets nobody in, not even the
        owner's tokens, before `grant`. Files that are there already stay.
        """
        with self.state.lock:
            repository = self.state.repositories.setdefault(name, Repository(name))
            repository.private = repository.private if private is None else private
            repository.gated = repository.gated if gated is None else "manual" if gated is True else gated
            parent = repository.find(branch)
            blobs = {**(parent.files if parent else {}), **{path: self._blob(path, c) for path, c in files.items()}}
            commit = repository.commit(blobs, parent, message, "", OWNER)
            repository.branches[branch] = commit.id
            return commit.id

    def _blob(self, path: str, content: bytes | Path) -> Blob:
        objects = self.state.objects
        sha256 = objects.keep(content) if isinstance(content, bytes) else objects.keep_file(content)
        stored = objects.open(sha256)
        if not is_large(path, stored.size, next(stored.blocks(0, 512), b"")):
            return git_blob(sha256, stored.read())
        return large_blob(sha256, stored.size, self._in_xet(sha256, content))

    def _in_xet(self, sha256: str, content: bytes | Path) -> str | None:
        if (cas := self.state.xet) is None:
            return None
        known = cas.by_sha256.get(sha256)
        return known.hash if known else cas.store(content)

    def grant(self, name: str, user: str = OWNER) -> None:
        """Lets a user through the gate of a repository."""
        self.state.repositories[name].granted.add(user)

    def contents(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """All files at a revision, by path."""
        files = self.state.repositories[name].at(revision).files
        return {path: self.state.objects.open(blob.sha256).read() for path, blob in files.items()}

    def head(self, name: str, revision: str = "main") -> str:
        """The commit that a revision names."""
        return self.state.repositories[name].at(revision).id

    def fail(self, fault: Fault) -> None:
        """Lets something go wrong with requests to come."""
        self.book.arm(fault)

    def unmet(self) -> list[Fault]:
        """Faults that have not struck as often as they should."""
        return self.book.unmet()

    def mend(self) -> None:
        """Forgets all faults that have not struck."""
        self.book.armed.clear()

    def expire(self) -> None:
        """Makes every signed address that was given out so far worthless."""
        self.state.secret = secrets.token_hex(16)

    def wait_for(self, method: str, path: str, seconds: float = 20.0) -> Request:
        """The first request that matches, waiting until it has come."""
        wanted = Fault(method, path)
        until = time.monotonic() + seconds

        def found() -> Request | None:
            return next((r for r in self.book.requests if wanted.means(r.method, r.path)), None)

        with self.book.changed:
            self.book.changed.wait_for(lambda: found() is not None, timeout=until - time.monotonic())
        if (request := found()) is None:
            raise TimeoutError(f"no {method} {path} came in {seconds:g} s")
        return request

    def environment(self) -> dict[str, str]:
        """What a subprocess needs on top of os.environ to talk to this Hub, as the owner, with a home of its own."""
        home = self.folder / f"home-{secrets.token_hex(4)}"
        home.mkdir(parents=True)
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": self.token,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "0" if self.xet else "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            **self.xet_environment(home / "xet"),
        }

    def xet_environment(self, cache: Path) -> dict[str, str]:
        """What keeps hf_xet to a cache of its own, and from waiting three seconds before it tries again."""
        delay = {"HF_XET_CLIENT_RETRY_BASE_DELAY": "10ms"}
        return {"HF_XET_CACHE": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1", **delay}
