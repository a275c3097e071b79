"""All that one Hub knows, and the table of its routes."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote, unquote

from tests.hub.access import User, readable, user_of, visible, writable
from tests.hub.storage import Blob, Objects, Repository, large_blob
from tests.hub.wire import Answer, Exchange, Refusal, reply

if TYPE_CHECKING:
    from tests.hub.cas import Cas

REPOSITORY = r"(?P<repo>[^/]+/[^/]+)"
MODEL = f"/api/models/{REPOSITORY}"
REVISION = r"(?P<revision>[^/]+)"


@dataclass
class State:
    """One Hub; changes are made under `lock`."""

    objects: Objects
    tokens: dict[str, User]
    endpoint: str = ""
    cdn: str = ""
    page: int = 1000  # entries of one answer of a listing
    part_bytes: int = 64 << 20  # larger files are uploaded in parts of this size
    signed_seconds: int = 3600
    xet: Cas | None = None
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    repositories: dict[str, Repository] = field(default_factory=dict)
    parts: dict[str, dict[int, tuple[str, Path]]] = field(default_factory=dict)  # upload -> number -> (etag, place)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def see(self, exchange: Exchange, name: str) -> Repository:
        """The repository that this request may know of."""
        return visible(self.repositories.get(name), user_of(exchange, self.tokens))

    def read(self, exchange: Exchange, name: str) -> Repository:
        """The repository whose files this request may have."""
        return readable(self.repositories.get(name), user_of(exchange, self.tokens))

    def write(self, exchange: Exchange, name: str, *, propose: bool = False) -> Repository:
        """The repository that this request may change."""
        return writable(self.repositories.get(name), user_of(exchange, self.tokens), propose=propose)

    def user(self, exchange: Exchange) -> User:
        """Who asks; nobody is refused."""
        if not (user := user_of(exchange, self.tokens)).name:
            raise Refusal(401, "Invalid username or password.")
        return user

    def large(self, repository: Repository, sha256: str, size: int | None) -> Blob:
        """The large file that a commit names; it must have come before."""
        if self.xet and (file := self.xet.by_sha256.get(sha256)) and size in (None, file.size):
            return large_blob(sha256, file.size, file.hash)
        if sha256 not in repository.uploaded:
            raise Refusal(400, "Your push was rejected because an LFS pointer pointed to a file that does not exist")
        stored = self.objects.open(sha256)
        if size not in (None, stored.size):
            raise Refusal(400, f"{sha256} has {stored.size} bytes, not {size}")
        return large_blob(sha256, stored.size, None)

    def sign(self, path: str) -> str:
        """An address on the other origin that needs no token, until it expires."""
        expires = int(time.time()) + self.signed_seconds
        return f"{self.cdn}{path}?Expires={expires}&Signature={self._seal(path, expires)}&Key-Pair-Id=K1"

    def signed(self, exchange: Exchange) -> bool:
        """Whether the address was given out by `sign` and is still good."""
        expires = int(exchange.asked("Expires", "0") or 0)
        return exchange.asked("Signature") == self._seal(exchange.path, expires) and expires >= time.time()

    def xet_token(self, scope: str, until: int) -> str:
        """A token for Xet storage."""
        return f"{scope}-{until}.{self._seal(scope, until)}"

    def _seal(self, path: str, expires: int) -> str:
        return hashlib.sha256(f"{self.secret} {path} {expires}".encode()).hexdigest()


Route: TypeAlias = Callable[..., Answer]
Table: TypeAlias = list[tuple[str, re.Pattern[str], Route]]


def router(table: Table) -> Callable[[str, str], Callable[[Route], Route]]:
    """A decorator that writes a function into the table, by method and pattern of the path."""

    def route(methods: str, pattern: str) -> Callable[[Route], Route]:
        def enter(function: Route) -> Route:
            table.extend((method, re.compile(pattern), function) for method in methods.split())
            return function

        return enter

    return route


def dispatch(state: State, table: Table, exchange: Exchange) -> Answer:
    """The answer of the first route that fits; its groups come as arguments, unquoted."""
    for method, pattern, function in table:
        if method == exchange.method and (match := pattern.fullmatch(exchange.path)):
            groups = {name: unquote(text) for name, text in match.groupdict().items() if text is not None}
            return function(state, exchange, **groups)
    raise Refusal(404, f"the loopback Hub has no route {exchange.method} {exchange.path}")


def page(state: State, exchange: Exchange, entries: list[dict[str, object]]) -> Answer:
    """One page of a listing, with the address of the next one as the header Link."""
    first = int(exchange.asked("cursor", "0"))
    size = min(state.page, int(exchange.asked("limit", str(state.page))))
    headers = {}
    if first + size < len(entries):
        rest = "&".join(_fields(exchange))
        headers["Link"] = f'<{state.endpoint}{exchange.path}?{rest}&cursor={first + size}>; rel="next"'
    return reply(entries[first : first + size], headers=headers)


def _fields(exchange: Exchange) -> Iterator[str]:
    for name, values in exchange.query.items():
        if name != "cursor":
            yield from (f"{name}={quote(value, safe='')}" for value in values)
