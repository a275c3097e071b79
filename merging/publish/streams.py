"""A file that goes to the Hub while it is made, with nothing on disk: Xet's own upload, kept apart because it is young.

All that is not promised to stay lives here: the session of `huggingface_hub`, the streams of `hf_xet`. Where any of it
is not as expected there is no stream, and files are written to disk and sent whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from merging.engine.delivery import Sent
from merging.errors import HubError
from merging.hub.client import Hub
from merging.hub.redact import redacted


class Stream:
    """One file on its way; written strictly forward."""

    def __init__(self, path: str, size: int, upload: Any, failed: Callable[[], object]):
        self._path = path
        self._tell = failed
        self._size = size
        self._written = 0
        self._upload = upload
        self._stream = upload.start_upload_stream(path)

    def write(self, block: memoryview) -> None:
        """Send the next bytes; returns when they are taken in, which waits for the network. Raises HubError."""
        self._written += block.nbytes
        if self._written > self._size:
            self.abort()
            raise HubError(f"{self._path} is longer than was told", must_be=f"{self._size:,} bytes")
        try:
            self._stream.write(bytes(block))
        except BaseException as error:
            self.abort()
            raise self._failed(error) from None

    def finish(self) -> Sent:
        """Wait until the Hub has everything. Raises HubError."""
        if self._written != self._size:
            self.abort()
            raise HubError(f"{self._path} ends after {self._written:,} bytes", must_be=f"{self._size:,} bytes")
        try:
            found = self._stream.finish().xet_info
            self._upload.wait_to_finish()
        except BaseException as error:
            self.abort()
            raise self._failed(error) from None
        return Sent(self._path, self._size, str(found.sha256), str(found.hash))

    def abort(self) -> None:
        """Let go of what has been sent; the Hub keeps no file of it."""
        for each in (self._stream, self._upload):
            with suppress(Exception):
                each.abort()

    def _failed(self, error: BaseException) -> BaseException:
        if not isinstance(error, Exception):
            return error
        self._tell()
        return HubError(
            f"{self._path} cannot be sent on as it is made",
            where=redacted(f"{type(error).__name__}: {error}")[:300],
            fix="run the same command again; HF_HUB_DISABLE_XET=1 sends whole files without Xet",
        )


def send_file(upload: Any, path: str, local: Path, watch: Callable[[int], None] | None) -> Sent:
    """Send a file from disk by an open upload; `watch` gets the bytes that are through. Raises what Xet raises."""
    size = local.stat().st_size
    try:
        task = upload.start_upload_file(str(local.resolve()))
        upload.wait_to_finish()
        found = task.result().xet_info
    except BaseException:
        with suppress(Exception):
            upload.abort()
        raise
    if found.file_size != size:
        raise HubError(f"{local} changed while it was sent", fix="publish it again")
    if watch:
        watch(size)
    return Sent(path, size, str(found.sha256), str(found.hash))


def open_upload(hub: Hub, repository: str, revision: str | None, watch: Callable[[int], None] | None = None) -> Any:
    """An upload of Xet to a revision of a repository, or to a pull request to come where it is None.

    `watch` gets the bytes that are through, now and then, from another thread. Raises what the Hub, Xet or a missing
    piece of their interfaces raises.
    """
    from huggingface_hub.utils._xet import get_xet_session, xet_headers_without_auth

    headers = hub.headers()
    session: Any = get_xet_session()  # type: ignore[no-untyped-call,unused-ignore]
    return session.new_upload_commit(
        token_refresh_url=token_address(hub, repository, revision),
        token_refresh_headers=headers,
        custom_headers=xet_headers_without_auth(headers),
        progress_callback=(lambda group, _: watch(group.total_bytes_completed)) if watch else None,
    )


class _Bars:
    """The client's progress bars, hidden as long as anybody wants them to be."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._depth = 0
        self._hidden: Any = None

    def hide(self) -> None:
        from huggingface_hub import constants
        from huggingface_hub.utils.tqdm import disable_progress_bars

        with self._lock:
            self._depth += 1
            # Where the environment demands bars, asking for none would only warn.
            if self._depth == 1 and constants.HF_HUB_DISABLE_PROGRESS_BARS is not False:
                self._hidden = disable_progress_bars()

    def show(self) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0 and self._hidden is not None:
                self._hidden.__exit__()
                self._hidden = None


_BARS = _Bars()


@contextmanager
def no_bars() -> Iterator[None]:
    """Have the client draw no progress bars: progress is ours to show."""
    _BARS.hide()
    try:
        yield
    finally:
        _BARS.show()


class _Redacting(logging.Filter):
    """Takes secrets out of what is logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redacted(record.getMessage()), ()
        return True


def redact_logs() -> None:
    """Have the client's own log hide signed addresses, which it prints whenever it tries again."""
    for output in logging.getLogger("huggingface_hub").handlers:
        if not any(isinstance(each, _Redacting) for each in output.filters):
            output.addFilter(_Redacting())


def token_address(hub: Hub, repository: str, revision: str | None) -> str:
    """Where the Hub gives out tokens for writing to Xet."""
    from huggingface_hub.utils._xet import XetTokenType, xet_connection_info_refresh_url

    address = xet_connection_info_refresh_url(
        token_type=XetTokenType.WRITE, repo_id=repository, repo_type="model", revision=revision, endpoint=hub.endpoint
    )
    return address if revision else f"{address}?create_pr=1"


def xet_holds(hub: Hub, repository: str, revision: str | None, name: str) -> bool:
    """Whether Xet can put a file of this name together; False where that cannot be told."""
    from huggingface_hub import get_session
    from huggingface_hub.utils._xet import parse_xet_connection_info_from_headers

    with suppress(Exception):
        given = get_session().get(token_address(hub, repository, revision), headers=hub.headers())
        storage = parse_xet_connection_info_from_headers(given.headers)
        if storage is not None:
            headers = {"Authorization": f"Bearer {storage.access_token}", "Range": "bytes=0-0"}
            answer = get_session().get(f"{storage.endpoint}/v1/reconstructions/{name}", headers=headers)
            return bool(answer.status_code == 200)
    return False
