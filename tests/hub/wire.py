"""HTTP/1.1 as the Hub needs it: a request as a value, an answer as a value, and sockets only in this file."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from email.message import Message

    from tests.hub.faults import Book

BLOCK_BYTES = 1 << 20
# What the Hub sends along when it asks itself, so that it neither records nor spoils it.
OWN_HEADER = "X-Loopback-Hub"


@dataclass(frozen=True)
class Stored:
    """Bytes at rest: in a file or in memory."""

    size: int
    place: Path | bytes

    def blocks(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`, in pieces."""
        if isinstance(self.place, bytes):
            yield self.place[start:stop]
            return
        with self.place.open("rb") as file:
            file.seek(start)
            while start < stop and (block := file.read(min(BLOCK_BYTES, stop - start))):
                start += len(block)
                yield block

    def read(self) -> bytes:
        """All of it."""
        return b"".join(self.blocks(0, self.size))


@dataclass(frozen=True)
class Answer:
    """What goes back: a body in memory, or the `span` of a file; the last three say how it is spoilt."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: Stored | None = None
    span: tuple[int, int] = (0, 0)
    truncate: int | None = None
    corrupt: bool = False
    drop: bool = False

    @property
    def length(self) -> int:
        """Bytes of the body that were meant to go."""
        return len(self.body) if self.file is None else self.span[1] - self.span[0]

    def blocks(self) -> Iterator[bytes]:
        """The body as it really goes."""
        whole = iter([self.body]) if self.file is None else self.file.blocks(*self.span)
        flip = self.length // 2 if self.corrupt else -1
        left = self.length if self.truncate is None else min(self.truncate, self.length)
        seen = 0
        for block in whole:
            if seen <= flip < seen + len(block):
                i = flip - seen
                block = block[:i] + bytes([block[i] ^ 0xFF]) + block[i + 1 :]
            seen += len(block)
            yield block[:left]
            left -= min(left, len(block))
            if not left:
                return


class Refusal(Exception):
    """A request that is answered by an error, in the words of the Hub."""

    def __init__(self, status: int, message: str, code: str | None = None, **extra: str) -> None:
        super().__init__(message)
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        headers |= {name.replace("_", "-"): value for name, value in extra.items()}
        self.answer = reply({"error": message}, status, headers)


def reply(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """A JSON answer."""
    return Answer(status, {"Content-Type": "application/json; charset=utf-8", **(headers or {})}, _dumps(value))


def _dumps(value: object) -> bytes:
    return json.dumps(value).encode()


def serve(file: Stored, asked: str | None, headers: dict[str, str]) -> Answer:
    """A file, or the one range of it that `asked` (the Range header) names: 200, 206 or 416."""
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked or "")
    if not match or match.groups() == ("", ""):
        return Answer(200, headers, file=file, span=(0, file.size))
    first, last = match.groups()
    if first:
        start, stop = int(first), min(int(last) + 1, file.size) if last else file.size
    else:
        start, stop = max(0, file.size - int(last)), file.size
    if start >= stop:
        return Answer(416, {**headers, "Content-Range": f"bytes */{file.size}"})
    return Answer(
        206, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{file.size}"}, file=file, span=(start, stop)
    )


@dataclass
class Exchange:
    """A request on its way through the routes; the body is read only where it is wanted."""

    method: str
    target: str
    headers: Message
    origin: str
    chunks: Iterator[bytes]

    def __post_init__(self) -> None:
        parts = urlsplit(self.target)
        self.path = parts.path
        self.query = parse_qs(parts.query)

    def asked(self, name: str, default: str = "") -> str:
        """A field of the query."""
        return self.query.get(name, [default])[-1]

    def body(self) -> bytes:
        """All of the body."""
        return b"".join(self.chunks)

    def json(self) -> Any:
        """The body as JSON, {} where there is none."""
        return json.loads(self.body() or b"{}")


class Server(ThreadingHTTPServer):
    """One origin: a port on the loopback, a book of requests and faults, and what answers."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, origin: str, book: Book, answer: Callable[[Exchange], Answer]) -> None:
        self.origin, self.book, self.answer = origin, book, answer
        self.mistakes: list[str] = []
        self.open: set[socket.socket] = set()
        self.stopping = threading.Event()
        super().__init__(("127.0.0.1", 0), _Connection)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name=f"hub-{origin}", daemon=True)
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remembers the connection, so that `stop` can end it."""
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forgets the connection."""
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client that went away is no mistake of ours; all else is."""
        if not isinstance(sys.exception(), OSError):
            self.mistakes.append(traceback.format_exc())

    def stop(self) -> None:
        """Ends the port and every connection that is open, kept alive or not."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self.shutdown()
        self.server_close()
        for connection in list(self.open):
            _hang_up(connection)
        self._thread.join()


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


class _Connection(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the book has it all."""

    def _exchange(self) -> None:
        exchange = Exchange(self.command, self.path, self.headers, self.server.origin, self._chunks())
        self.request_record = self.server.book.record(exchange)
        own = exchange.headers.get(OWN_HEADER) == self.server.book.own
        fault = None if own else self.server.book.before(exchange)
        if fault and fault.hold:
            while not fault.hold.wait(0.02) and not self.server.stopping.is_set():
                pass
        if fault and fault.drop == "before":
            self._drop()
            return
        answer = self._handled(exchange) if fault is None or fault.status is None else _status(fault.status)
        if fault is None and not own:
            fault = self.server.book.after(exchange, answer)
        for _ in exchange.chunks:
            pass
        self._send(fault.spoil(answer) if fault else answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _exchange

    def _handled(self, exchange: Exchange) -> Answer:
        try:
            return self.server.answer(exchange)
        except Refusal as refusal:
            return refusal.answer
        except ConnectionError:
            raise
        except Exception:
            self.server.mistakes.append(traceback.format_exc())
            return reply({"error": traceback.format_exc()}, 500)

    def _chunks(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self._take(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            left -= len(block := self._take(min(left, BLOCK_BYTES)))
            yield block

    def _take(self, size: int) -> bytes:
        block = self.rfile.read(size)
        if len(block) < size:
            raise ConnectionError("the client went away in the middle of a body")
        self.request_record.received += size
        return block

    def _send(self, answer: Answer) -> None:
        if answer.drop:
            self._drop()
            return
        self.request_record.status = answer.status
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(answer.length))
        self.end_headers()
        for block in answer.blocks() if self.command != "HEAD" else ():
            self.request_record.served += len(block)
            self.wfile.write(block)
        self.wfile.flush()
        if answer.truncate is not None and answer.truncate < answer.length:
            self._drop()

    def _drop(self) -> None:
        self.close_connection = True
        _hang_up(self.connection)


def _status(status: int) -> Answer:
    return Refusal(status, f"status {status}, as the test asked").answer
