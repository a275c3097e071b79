"""What the Hub's answers mean, in our words and without secrets; and patience where another try may help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event
from typing import TypeVar

from merging.errors import HubError, NoRepositoryError
from merging.hub.redact import redacted

T = TypeVar("T")
# The Hub is busy, or something between us and it is: another try may be answered.
BUSY = (408, 425, 429, 500, 502, 503, 504)
# No server is believed that wants us to wait longer, in seconds.
LONGEST_WAIT = 120.0


def told(error: Exception, what: str) -> HubError:
    """An error of the network or of the Hub, in our words and without secrets."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, HubError):
        return error
    if isinstance(error, errors.RevisionResolutionError) and isinstance(error.__cause__, Exception):
        return told(error.__cause__, what)
    if isinstance(error, errors.GatedRepoError):
        return HubError(
            f"{what} is gated, and this account has no access to it",
            fix="ask for access on its page, then give a token of that account (`hf auth login`, or HF_TOKEN)",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return NoRepositoryError(
            f"there is no repository {what}, or it is private",
            must_be="owner/name, or owner/name@revision",
            fix="check the spelling; for a private one give a token that may read it (`hf auth login`, or HF_TOKEN)",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(f"there is no such revision: {what}", must_be="a branch, a tag or a commit")
    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError | errors.RevisionResolutionError):
        return HubError(f"cannot get {what}: the Hub is not asked in offline mode", fix="unset HF_HUB_OFFLINE")
    if isinstance(error, errors.EntryNotFoundError):
        return HubError(f"there is no such file: {what}")
    if status is not None:
        return _answered(status, what, str(error))
    return HubError(
        f"cannot reach the Hub: {what}",
        where=redacted(f"{type(error).__name__}: {error}")[:300],
        fix="check the connection; HF_HUB_OFFLINE=1 merges from what the cache holds",
    )


def _answered(status: int, what: str, text: str) -> HubError:
    """What an answer means that the client has no word for."""
    told_by_status = {
        401: ("the Hub does not know the token", "log in again with `hf auth login`, or set HF_TOKEN"),
        403: ("this token may not", "give a token with the right to read or write it"),
        429: ("the Hub asks to be left alone", "run the same command again in some minutes"),
    }
    says, fix = told_by_status.get(status, (f"the Hub answered {status}", None))
    return HubError(f"{says}: {what}", where=redacted(text)[:300] if fix is None else None, fix=fix)


def patiently(
    waits: Sequence[float], attempt: Callable[[], T], what: str, say: Callable[[Exception, str], HubError] = told
) -> T:
    """What `attempt` returns; tried again after each of `waits` seconds as long as the Hub is only busy.

    `say` puts into words what stays. Raises HubError.
    """
    for wait in (*waits, None):
        try:
            return attempt()
        except Exception as error:
            if wait is None or not is_passing(error):
                raise say(error, what) from None
            rest(wait, error)
    raise AssertionError("the last try either returns or raises")


def rest(wait: float, error: Exception) -> None:
    """Wait, as long as the Hub asks for if that is longer."""
    headers = getattr(getattr(_origin(error), "response", None), "headers", {})
    asked = headers.get("Retry-After", "")
    Event().wait(min(max(wait, float(asked) if asked.isdigit() else 0.0), LONGEST_WAIT))


def is_passing(error: Exception) -> bool:
    """Whether an error may pass by itself: a busy server, a broken connection."""
    status, origin = status_of(error), _origin(error)
    # httpx2 is behind the client's door; its kinds of broken connections are known by where they come from.
    network = type(origin).__module__.split(".")[0] in ("httpx2", "httpcore2") or isinstance(origin, ConnectionError)
    return status in BUSY or (status is None and network)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that the Hub answered with; None where it did not."""
    status = getattr(getattr(_origin(error), "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _origin(error: BaseException) -> BaseException:
    """What the network said, of an error that was told in our words or wrapped by the client."""
    while not hasattr(error, "response"):
        inner = error.__context__ if isinstance(error, HubError) else error.__cause__
        if inner is None:
            break
        error = inner
    return error
