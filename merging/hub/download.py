"""Whole files from a repository: by Xet where the Hub offers it, else without; checked by their SHA-256."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import file_digest, sha1
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from merging.errors import HubError, HubWarning
from merging.hub.answers import told
from merging.hub.client import Hub, Pinned, RemoteFile, cached_file
from merging.hub.together import done_together

T = TypeVar("T")
_without = Lock()
# Files fetched at the same time.
TOGETHER = 4


def download(hub: Hub, pinned: Pinned, path: str, folder: Path | None = None) -> Path:
    """A file of a pinned repository, in the cache or in a folder; what is there already is not fetched again.

    A freshly fetched file must have the content that the Hub told: its SHA-256, or git's digest. Raises HubError.
    """
    file = pinned.files[path]
    held = cached_file(pinned, path) if folder is None else folder / path
    if held and (folder is None or is_held(held, file)):
        return held
    if hub.offline:
        raise HubError(
            f"the cache holds no {path} of {pinned}", fix="unset HF_HUB_OFFLINE, or fetch it with `merging pull`"
        )
    fetched = without_xet_if_needed(lambda: _fetched(hub, pinned, path, folder), f"{path} of {pinned}")
    if not is_held(fetched, file):
        # In the cache the name is a link to the content: both have to go, or the next run would take it for good.
        fetched.resolve().unlink(missing_ok=True)
        fetched.unlink(missing_ok=True)
        raise HubError(
            f"{path} of {pinned} arrived with other content than the Hub told",
            must_be=f"SHA-256 {file.sha256}" if file.sha256 else f"git blob {file.blob}",
            fix="run the same command again; if it stays so, the Hub or a proxy on the way is at fault",
        )
    return fetched


def download_all(
    hub: Hub,
    pinned: Pinned,
    paths: Iterable[str],
    folder: Path | None = None,
    watch: Callable[[RemoteFile], None] = lambda _: None,
) -> dict[str, Path]:
    """Several files, some at the same time; by their names in the repository. `watch` is told each that is there.

    Raises the first HubError.
    """

    def one(name: str) -> Path:
        found = download(hub, pinned, name, folder)
        watch(pinned.files[name])
        return found

    names = list(paths)
    return dict(zip(names, done_together([partial(one, name) for name in names], TOGETHER), strict=True))


def without_xet_if_needed(attempt: Callable[[], T], what: str) -> T:
    """What `attempt` returns; when it fails in Xet, what it returns without. Raises HubError."""
    from huggingface_hub import constants

    try:
        return attempt()
    except Exception as error:
        # Where another file is falling back at this moment, it is we who have switched Xet off.
        may = not constants.HF_HUB_DISABLE_XET or _without.locked()
        if not (may and _is_xet(error)):
            raise told(error, what) from None
        reason = type(error).__name__
    warnings.warn(f"Xet failed for {what} ({reason}); going on without it", HubWarning, stacklevel=2)
    try:
        with xet_disabled():
            return attempt()
    except Exception as error:
        raise told(error, what) from None


@contextmanager
def xet_disabled() -> Iterator[None]:
    """Have the client use plain HTTP; what other threads fetch meanwhile goes the same way."""
    from huggingface_hub import constants

    with _without:
        before = constants.HF_HUB_DISABLE_XET
        constants.HF_HUB_DISABLE_XET = True
        try:
            yield
        finally:
            constants.HF_HUB_DISABLE_XET = before


def _is_xet(error: BaseException) -> bool:
    """Whether an error came out of Xet: its own kinds, its addresses, or the bare ones of its bindings."""
    from huggingface_hub import errors

    told_by = type(error).__module__.split(".")[0] == "hf_xet" or isinstance(error, errors.XetDownloadError)
    return told_by or "xet" in str(error).lower() or type(error) in (RuntimeError, ConnectionError)


def _fetched(hub: Hub, pinned: Pinned, path: str, folder: Path | None) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(
        hf_hub_download(
            pinned.repository,
            path,
            revision=pinned.commit,
            endpoint=hub.endpoint,
            token=hub.token or False,
            local_dir=folder,
            library_name="merging",
            tqdm_class=_silent(),
        )
    )


def _silent() -> Any:
    """A progress bar that shows nothing: progress is ours to show."""
    from huggingface_hub.utils.tqdm import tqdm

    class Silent(tqdm):  # type: ignore[type-arg,misc,unused-ignore]
        """No bar."""

        def __init__(self, *arguments: Any, **settings: Any):
            super().__init__(*arguments, **{**settings, "disable": True})  # type: ignore[no-untyped-call]

    return Silent


def is_held(path: Path, file: RemoteFile) -> bool:
    """Whether a local file has a repository file's content: by SHA-256, or by git's digest, as far as told."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if file.sha256:
        return _sha256(path) == file.sha256
    if not file.blob:
        return True
    return sha1(b"blob %d\0" % file.size + path.read_bytes()).hexdigest() == file.blob


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()
