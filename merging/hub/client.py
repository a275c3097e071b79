"""A Hub: its address, who we are there, and what a repository holds at one commit.

`huggingface_hub` takes part of a second to import, so it is imported where it is used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from merging.errors import HubError
from merging.hub.answers import patiently, told
from merging.hub.names import HubName

ENDPOINT = "https://huggingface.co"
# Seconds before a request is made again; as many tries as there are numbers, and one.
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
# Seconds a server may be silent.
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository; `sha256` where it is stored apart as a large file, `blob` what git calls its content."""

    path: str
    size: int
    sha256: str | None
    blob: str

    @property
    def identity(self) -> str:
        """What names the content: SHA-256 of a large file, git's digest of a small one."""
        return self.sha256 or self.blob


@dataclass(frozen=True)
class Pinned:
    """A repository at one commit. `license`, `base_models` and the flags are what its card and the Hub say."""

    repository: str
    revision: str
    commit: str
    files: Mapping[str, RemoteFile]
    license: str | None = None
    gated: bool = False
    private: bool = False
    base_models: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.repository}@{self.commit[:12]}"


@dataclass(frozen=True)
class Hub:
    """One endpoint, with a token or none. `waits` are the seconds before each further try of a failed request."""

    endpoint: str = ENDPOINT
    token: str | None = field(default=None, repr=False)
    offline: bool = False
    waits: tuple[float, ...] = WAITS
    pins: dict[HubName, Pinned] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_environment(cls) -> Hub:
        """As HF_ENDPOINT, HF_TOKEN or the saved token, and HF_HUB_OFFLINE say."""
        from huggingface_hub import constants, get_token, is_offline_mode

        endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or ENDPOINT
        token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
        if token and endpoint.startswith("http://") and not _is_loopback(endpoint):
            raise HubError(
                f"a token would be sent to {endpoint} without encryption",
                must_be="an address that begins with https://",
                fix="set HF_ENDPOINT to one, or unset HF_TOKEN",
            )
        return cls(endpoint, token, is_offline_mode())

    def pin(self, name: HubName) -> Pinned:
        """What a repository holds at the commit that its revision is now. Raises HubError."""
        known = (self.pins or {}).get(name)
        found = known or (_cached(name) if self.offline else self._asked(name))
        if self.pins is not None:
            self.pins[name] = found
        return found

    def remembering(self) -> Hub:
        """The same, which looks each revision up once: all that is opened together is of one commit."""
        return replace(self, pins={})

    def _asked(self, name: HubName) -> Pinned:
        api = self.api()

        def answer() -> Any:
            # Also notes in the cache what the revision is now, for when there is no connection.
            commit = api.resolve_revision(name.repository, revision=name.revision).resolved
            return api.model_info(name.repository, revision=commit, files_metadata=True, timeout=PATIENCE)

        found = patiently(self.waits, answer, str(name))
        files = {each.rfilename: _remote(each) for each in found.siblings or () if each.size is not None}
        card = found.card_data.to_dict() if found.card_data else {}
        named = card.get("base_model")
        bases = tuple(str(each) for each in (named if isinstance(named, list) else [named] if named else ()))
        licence = card.get("license")
        return Pinned(
            repository=found.id,
            revision=name.revision or "main",
            commit=str(found.sha),
            files=files,
            license=str(card.get("license_name") if licence == "other" else licence) if licence else None,
            gated=bool(found.gated),
            private=bool(found.private),
            base_models=bases,
        )

    def api(self) -> Any:
        """The client for everything that is no file's content."""
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=self.token or False, library_name="merging")

    def headers(self) -> dict[str, str]:
        """What a request to the endpoint carries."""
        from huggingface_hub.utils._headers import build_hf_headers

        made: dict[str, str] = build_hf_headers(token=self.token or False, library_name="merging")
        return made


def cache_folder() -> Path:
    """Where fetched files are kept, as HF_HOME and HF_HUB_CACHE say."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached_file(pinned: Pinned, path: str) -> Path | None:
    """Where the cache holds a file of a pinned repository; None where it does not."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(pinned.repository, path, revision=pinned.commit)
    file = Path(found) if isinstance(found, str) else None
    return file if file and file.is_file() and file.stat().st_size == pinned.files[path].size else None


def _is_loopback(endpoint: str) -> bool:
    from urllib.parse import urlsplit

    return urlsplit(endpoint).hostname in ("localhost", "127.0.0.1", "::1")


def _remote(sibling: Any) -> RemoteFile:
    large = sibling.lfs
    return RemoteFile(sibling.rfilename, sibling.size, large.sha256 if large else None, str(sibling.blob_id or ""))


def _cached(name: HubName) -> Pinned:
    """What the cache holds of a repository: files are links to blobs, which are named by their content."""
    from huggingface_hub import HfApi
    from huggingface_hub.file_download import repo_folder_name

    try:
        found = HfApi().resolve_revision(name.repository, revision=name.revision, local_files_only=True)
    except Exception as error:
        raise told(error, f"{name}, of which the cache holds nothing") from None
    commit = found.resolved
    home = cache_folder() / repo_folder_name(repo_id=name.repository, repo_type="model")
    snapshot = home / "snapshots" / commit
    files = {}
    for file in sorted(each for each in snapshot.rglob("*") if each.is_file()):
        path, blob = file.relative_to(snapshot).as_posix(), file.resolve().name
        large = blob if len(blob) == 64 else None
        files[path] = RemoteFile(path, file.stat().st_size, large, "" if large else blob)
    return Pinned(name.repository, name.revision or "main", commit, files)
