"""What can go wrong between a client and the Hub, and the record of every request."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests.hub.wire import OWN_HEADER, Answer, Exchange


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong with the next requests that match; without `status` and `drop` they are answered.

    `method` "" means any, `path` is searched in path and query as sent. The first `skip` matching requests pass, the
    next `times` meet the fault. Faults of the body (`truncate`, `corrupt`, `ignore_range`) wait for an answer that has
    one: a redirect on the way to the bytes neither meets them nor counts.
    """

    method: str = "GET"
    path: str = ""
    times: int = 1
    skip: int = 0
    status: int | None = None  # answered in place of handling the request
    retry_after: int | None = None  # seconds, as a header
    headers: Mapping[str, str] | None = None  # added to the answer
    truncate: int | None = None  # bytes of the body after which the connection is closed
    corrupt: bool = False  # the byte in the middle of the body is flipped
    ignore_range: bool = False  # 200 with the whole file
    etag: str | None = None  # in place of ETag and X-Linked-Etag
    drop: str | None = None  # "before": closed without handling the request; "after": handled, but never answered
    hold: threading.Event | None = None  # the request waits for the event before anything else

    def __post_init__(self) -> None:
        if self.drop not in (None, "before", "after"):
            raise ValueError(f"drop is 'before', 'after' or None, not {self.drop!r}")
        spoils = self.truncate is not None or self.corrupt or self.ignore_range or self.etag is not None
        if spoils and self.early:
            raise ValueError("a fault either keeps the request from its answer or spoils the answer")

    @property
    def early(self) -> bool:
        """Whether it acts before the request is handled."""
        return self.status is not None or self.drop == "before" or self.hold is not None

    def means(self, method: str, path: str) -> bool:
        """Whether it means a request."""
        return self.method in ("", method) and re.search(self.path, path) is not None

    def fits(self, exchange: Exchange, answer: Answer) -> bool:
        """Whether the answer has what the fault spoils."""
        body = exchange.method != "HEAD" and answer.status in (200, 206) and answer.length > 0
        if self.ignore_range:
            return body and answer.file is not None and "Range" in exchange.headers
        if self.truncate is not None or self.corrupt:
            return body
        return self.etag is None or "ETag" in answer.headers or "X-Linked-Etag" in answer.headers

    def spoil(self, answer: Answer) -> Answer:
        """The answer with the fault in it."""
        headers = {**answer.headers, **(self.headers or {})}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.etag is not None:
            headers |= {name: f'"{self.etag}"' for name in ("ETag", "X-Linked-Etag") if name in headers}
        if self.ignore_range and answer.file is not None:
            headers.pop("Content-Range", None)
            answer = replace(answer, status=200, span=(0, answer.file.size))
        return replace(answer, headers=headers, truncate=self.truncate, corrupt=self.corrupt, drop=self.drop == "after")


@dataclass
class Request:
    """One request, recorded when it came; `status` is 0 until it is answered and stays 0 if it never is."""

    method: str
    path: str  # with the query, as sent
    headers: Mapping[str, str]  # by lower-case name
    status: int = 0
    served: int = 0  # bytes of body sent back
    received: int = 0  # bytes of body taken in
    origin: str = "hub"  # or "cdn"

    @property
    def token(self) -> str | None:
        """The token that it carried."""
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        return token if kind.lower() == "bearer" else None


@dataclass
class _Armed:
    fault: Fault
    seen: int = 0

    def strikes(self) -> bool:
        """Counts one more request; whether it meets the fault."""
        self.seen += 1
        return self.fault.skip < self.seen <= self.fault.skip + self.fault.times


@dataclass
class Book:
    """The faults that are still to come, and all requests in the order of their coming."""

    requests: list[Request] = field(default_factory=list)
    armed: list[_Armed] = field(default_factory=list)
    own: str = field(default_factory=lambda: secrets.token_hex(16))
    changed: threading.Condition = field(default_factory=threading.Condition)

    def arm(self, fault: Fault) -> None:
        """Lets a fault wait for its requests."""
        with self.changed:
            self.armed.append(_Armed(fault))

    def record(self, exchange: Exchange) -> Request:
        """Writes a request down and wakes those who wait for it."""
        headers = {name.lower(): value for name, value in exchange.headers.items()}
        request = Request(exchange.method, exchange.target, headers, origin=exchange.origin)
        if exchange.headers.get(OWN_HEADER) != self.own:
            with self.changed:
                self.requests.append(request)
                self.changed.notify_all()
        return request

    def before(self, exchange: Exchange) -> Fault | None:
        """The fault that this request meets before it is handled."""
        met = [a for a in self.armed if a.fault.means(exchange.method, exchange.target)]
        return self._strike([a for a in met if a.fault.early])

    def after(self, exchange: Exchange, answer: Answer) -> Fault | None:
        """The fault that its answer meets."""
        met = [a for a in self.armed if a.fault.means(exchange.method, exchange.target)]
        return self._strike([a for a in met if not a.fault.early and a.fault.fits(exchange, answer)])

    def _strike(self, candidates: list[_Armed]) -> Fault | None:
        with self.changed:
            return next((armed.fault for armed in candidates if armed.strikes()), None)

    def unmet(self) -> list[Fault]:
        """Faults that have not struck as often as they should."""
        with self.changed:
            return [a.fault for a in self.armed if a.seen < a.fault.skip + a.fault.times]
