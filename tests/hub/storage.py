"""Repositories as values: blobs, commits, branches, tags and pull requests, and where their bytes lie."""

from __future__ import annotations

import hashlib
import itertools
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from tests.hub.wire import BLOCK_BYTES, Refusal, Stored

LFS_SUFFIXES = re.compile(
    r"\.(7z|arrow|bin|bz2|ckpt|gguf|gz|h5|joblib|msgpack|np[yz]|onnx|parquet|pb|pickle|pkl|pth?|safetensors|tar|xz|zip)$"
)
LFS_NAMES = frozenset({"tokenizer.model"})
LFS_BYTES = 10 << 20


def is_large(path: str, size: int, sample: bytes) -> bool:
    """Whether the Hub keeps a file outside git: by its name, its size, or as it is no text."""
    name = PurePosixPath(path).name
    return bool(LFS_SUFFIXES.search(name)) or name in LFS_NAMES or size > LFS_BYTES or b"\0" in sample


@dataclass(frozen=True)
class Blob:
    """One version of a file; its bytes are found by `sha256`."""

    sha256: str
    size: int
    oid: str  # of the content, or of the LFS pointer
    lfs: bool = False
    xet: str | None = None

    @property
    def etag(self) -> str:
        """What the Hub gives as etag: the sha256 of large files, git's name of the others."""
        return self.sha256 if self.lfs else self.oid

    @property
    def pointer_size(self) -> int:
        """Bytes of the LFS pointer in git."""
        return len(_pointer(self.sha256, self.size))


def git_blob(sha256: str, content: bytes) -> Blob:
    """A file in git."""
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return Blob(sha256, len(content), oid)


def large_blob(sha256: str, size: int, xet: str | None) -> Blob:
    """A file outside git."""
    return Blob(sha256, size, git_blob(sha256, _pointer(sha256, size)).oid, True, xet)


def _pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


@dataclass(frozen=True)
class Commit:
    """A state of all files, with the state before it."""

    id: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: Mapping[str, Blob]


@dataclass
class Repository:
    """One model repository."""

    name: str
    private: bool = False
    gated: str | bool = False
    created: str = field(default_factory=lambda: now())
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[int, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    uploaded: set[str] = field(default_factory=set)  # sha256 of large files that a commit may name
    granted: set[str] = field(default_factory=set)  # users who were let through the gate

    def find(self, revision: str) -> Commit | None:
        """The commit that a branch, tag, pull request or (abbreviated) id names."""
        if pull := re.fullmatch(r"refs/pr/(\d+)", revision):
            return self.commits.get(self.pulls.get(int(pull[1]), ""))
        plain = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        named = self.branches.get(plain) or self.tags.get(plain)
        if named is None and re.fullmatch(r"[0-9a-f]{7,40}", revision):
            named = next((name for name in self.commits if name.startswith(revision)), None)
        return self.commits.get(named) if named else None

    def at(self, revision: str) -> Commit:
        """The same, refused as the Hub does where there is none."""
        if (commit := self.find(revision)) is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def commit(self, files: Mapping[str, Blob], parent: Commit | None, title: str, message: str, author: str) -> Commit:
        """A new commit that no name points to yet."""
        listing = "\n".join(f"{path} {blob.oid}" for path, blob in sorted(files.items()))
        text = f"{len(self.commits)} {parent and parent.id} {title}\n{message}\n{listing}"
        name = hashlib.sha1(text.encode()).hexdigest()
        ordered = MappingProxyType(dict(sorted(files.items())))
        made = Commit(name, parent and parent.id, title, message, author, now(), ordered)
        self.commits[name] = made
        self.uploaded |= {blob.sha256 for blob in files.values() if blob.lfs}
        return made

    def open_pull(self, commit: Commit) -> int:
        """A pull request at a commit; gives its number."""
        number = len(self.pulls) + 1
        self.pulls[number] = commit.id
        return number

    def history(self, commit: Commit | None) -> list[Commit]:
        """A commit and all before it, the newest first."""
        found = []
        while commit:
            found.append(commit)
            commit = self.commits.get(commit.parent or "")
        return found


def merged(repository: Repository, ours: Commit, theirs: Commit) -> dict[str, Blob]:
    """Our files with what they changed since the last state that both come from."""
    common = {commit.id for commit in repository.history(ours)}
    start = next((commit for commit in repository.history(theirs) if commit.id in common), None)
    before = start.files if start else {}
    changed = {path: blob for path, blob in theirs.files.items() if before.get(path) != blob}
    kept = {path: blob for path, blob in ours.files.items() if path in theirs.files or path not in before}
    return {**kept, **changed}


def now() -> str:
    """The time, as the Hub writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Objects:
    """Bytes by their sha256: in memory where small, in files otherwise, or fetched from elsewhere when asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.known: dict[str, Stored] = {}
        self.elsewhere: Callable[[str], Path | None] = lambda _: None
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self.known

    def keep(self, content: bytes) -> str:
        """Takes bytes in; gives their sha256."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.known.setdefault(sha256, Stored(len(content), content))
        return sha256

    def keep_file(self, path: Path) -> str:
        """Takes a file in where it lies, without copying it; gives its sha256."""
        digest = hashlib.sha256()
        size = 0
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
                size += len(block)
        self.known.setdefault(digest.hexdigest(), Stored(size, path))
        return digest.hexdigest()

    def receive(self, blocks: Iterable[bytes]) -> tuple[str, int, Path]:
        """Writes what is uploaded to a file; gives its sha256, size and place. Nothing is kept of a broken upload."""
        digest = hashlib.sha256()
        size = 0
        place = self.folder / f"upload-{next(self._numbers)}"
        with place.open("wb") as file:
            for block in blocks:
                digest.update(block)
                size += file.write(block)
        return digest.hexdigest(), size, place

    def open(self, sha256: str) -> Stored:
        """The bytes, fetched from elsewhere where they are not here."""
        if sha256 not in self.known:
            with self._lock:
                if sha256 not in self.known and (place := self.elsewhere(sha256)):
                    self.known[sha256] = Stored(place.stat().st_size, place)
        return self.known[sha256]
