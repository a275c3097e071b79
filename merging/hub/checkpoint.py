"""A repository as a checkpoint: headers by range before a byte of weights; the bytes in one of three ways.

snapshot    whole files, into the Hub's cache, where they stay
shards      whole files, one after another, each removed after its last tensor
ranges      only the bytes that are read, nothing on disk
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Event, Lock
from typing import Any, get_args

from merging.checkpoint.bytes import ByteSource, LocalBytes
from merging.checkpoint.folders import CONFIG_LIMIT, SAFETENSORS, choose_weights, parse_config, raise_flat
from merging.checkpoint.headers import INDEX_LIMIT, SHARD_LIMIT, Header, parse_index, raise_some, read_header
from merging.checkpoint.shards import ShardCheckpoint, disagreements
from merging.checkpoint.sidecars import sidecar_names
from merging.errors import CheckpointError, HubError, MergingError
from merging.hub.client import Hub, Pinned, cached_file
from merging.hub.download import download, download_all
from merging.hub.fetching import Fetch
from merging.hub.files import NONE, SIZES, WHOLE, FetchedBytes
from merging.hub.names import HubName
from merging.hub.ranges import ExactBytes, RangeBytes
from merging.hub.scratch import Scratch, scratch_root
from merging.hub.together import done_together

# A tokenizer takes tens of megabytes; there are a dozen files beside it.
SIDECAR_LIMIT, SIDECARS_LIMIT = 512 << 20, 200
# Headers that are asked for at the same time.
TOGETHER = 8


class HubCheckpoint(ShardCheckpoint):
    """The safetensors files of a repository at one commit."""

    def __init__(
        self,
        location: str,
        hub: Hub,
        pinned: Pinned,
        sources: Mapping[str, tuple[ByteSource, Header]],
        fetch: Fetch = "snapshot",
        scratch: Scratch | None = None,
    ):
        super().__init__(location, list(sources.values()))
        self.fetch = fetch
        self._hub = hub
        self._shards = dict(sources)
        self._holder = {name: shard for shard, (_, header) in sources.items() for name in header.specs}
        self._left: Counter[str] = Counter()
        self._counting = Lock()
        self._scratch = scratch
        self.pinned: tuple[Pinned, ...] = (pinned,)
        self.config = self._read_config()

    @property
    def fingerprint(self) -> str:
        """Digest of all headers and of what the Hub says the files hold; the same however the bytes are fetched."""
        digest = sha256()
        for shard, (_, header) in sorted(self._shards.items()):
            digest.update(header.digest)
            digest.update(f"{header.size} {self.pinned[0].files[shard].identity}\n".encode())
        return digest.hexdigest()

    @property
    def integrity(self) -> str:
        """The weakest check that any of the files has passed, of those read so far."""
        found = {getattr(source, "integrity", NONE) for source, _ in self._shards.values()}
        return next(each for each in (NONE, SIZES, WHOLE) if each in found)

    def missing(self) -> dict[tuple[str, str, str], int]:
        """Sizes of the weight files that have to be fetched whole, by repository, commit and name."""
        pinned = self.pinned[0]
        if self.fetch == "ranges":
            return {}
        return {
            (pinned.repository, pinned.commit, shard): pinned.files[shard].size
            for shard in self._shards
            if cached_file(pinned, shard) is None
        }

    def sidecars(self) -> Mapping[str, Path]:
        """Files beside the weights that travel with them, fetched into the cache. Raises HubError."""
        return download_all(self._hub, self.pinned[0], self.sidecar_names)

    @property
    def sidecar_names(self) -> list[str]:
        """Their names, for which nothing is fetched."""
        return sidecar_names(self.pinned[0].files)

    def expect(self, names: Iterable[str], stop: Event | None = None) -> None:
        """Say which tensors will be read, each as often as it is named; replaces what was said before.

        Reads that wait for the Hub end with HubError once `stop` is set.
        """
        for source, _ in self._shards.values():
            if isinstance(source, FetchedBytes | RangeBytes):
                source.stop = stop
        with self._counting:
            self._left = Counter(self._holder[name] for name in names)

    def finished(self, name: str) -> None:
        """Say that a tensor has been read; the file of the last one is let go of."""
        shard = self._holder[name]
        with self._counting:
            self._left[shard] -= 1
            last = self._left[shard] == 0
        source = self._shards[shard][0]
        if last and isinstance(source, FetchedBytes):
            source.release()

    def close(self) -> None:
        """Let go of all files, and of those that are not kept for good."""
        super().close()
        if self._scratch is not None:
            self._scratch.remove()

    def _read_config(self) -> dict[str, Any]:
        if "config.json" not in self.pinned[0].files:
            return {}
        content = _small(self._hub, self.pinned[0], "config.json", CONFIG_LIMIT)
        return parse_config(content, "config.json", self.location)


def open_repository(name: HubName, hub: Hub, fetch: Fetch = "snapshot") -> HubCheckpoint:
    """A repository as a checkpoint; headers, index and config are read, no tensor is.

    Raises HubError, CheckpointError, or Problems with all that is wrong.
    """
    return open_pinned(RepositoryFiles(hub, hub.pin(name), str(name), fetch))


class RepositoryFiles:
    """The files of a repository at one commit, of which some may be opened as a checkpoint."""

    def __init__(self, hub: Hub, pinned: Pinned, name: str, fetch: Fetch = "snapshot"):
        if fetch not in get_args(Fetch):
            raise HubError(f"bytes cannot be fetched by {fetch!r}", must_be=" or ".join(get_args(Fetch)))
        self.hub = hub
        self.pinned = pinned
        self.name = name
        self.where = str(pinned)
        self.fetch: Fetch = fetch

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return name in self.pinned.files

    def content(self, name: str, limit: int) -> bytes:
        """A small file, by way of the cache. Raises CheckpointError for one of more than `limit` bytes, HubError."""
        return _small(self.hub, self.pinned, name, limit)

    def open(self, weight_map: Mapping[str, str]) -> HubCheckpoint:
        """The files that an index, or a part of one, names, as one checkpoint; no other file is looked at.

        Raises HubError, CheckpointError, Problems.
        """
        return _open_shards(self, sorted(set(weight_map.values())), weight_map)


def open_pinned(files: RepositoryFiles) -> HubCheckpoint:
    """The weights of a repository as a checkpoint. Raises HubError, CheckpointError, Problems."""
    return _open_shards(files, *_weights(files.hub, files.pinned, files.name))


def _open_shards(files: RepositoryFiles, shards: Sequence[str], weight_map: Mapping[str, str] | None) -> HubCheckpoint:
    hub, pinned, location, fetch = files.hub, files.pinned, files.name, files.fetch
    missing = [shard for shard in shards if shard not in pinned.files]
    if missing:
        raise CheckpointError(f"shards are missing: {', '.join(missing[:20])}", where=str(pinned))
    _refuse_flood(pinned, shards)
    headers = _headers(hub, pinned, shards)
    raise_some(disagreements(shards, [headers[shard] for shard in shards], weight_map, location))
    scratch = Scratch(scratch_root()) if fetch == "shards" else None
    sources = {shard: (_source(hub, pinned, shard, fetch, scratch), headers[shard]) for shard in shards}
    return HubCheckpoint(location, hub, pinned, sources, fetch, scratch)


def _source(hub: Hub, pinned: Pinned, shard: str, fetch: Fetch, scratch: Scratch | None) -> ByteSource:
    """The bytes of one file; what the cache holds is read from there in any case."""
    file = pinned.files[shard]
    if fetch == "ranges" and cached_file(pinned, shard) is None:
        return RangeBytes(hub, pinned, file)
    return FetchedBytes(hub, pinned, file, scratch.folder if scratch else None)


def _weights(hub: Hub, pinned: Pinned, where: str) -> tuple[Sequence[str], Mapping[str, str] | None]:
    """The weight files in order, and what their index says if there is one. Raises CheckpointError."""
    names = sorted(path for path in pinned.files if "/" not in path)

    def content(name: str) -> bytes:
        return _small(hub, pinned, name, INDEX_LIMIT)

    index, chosen = choose_weights(Path(pinned.repository), names, content)
    weight_map = parse_index(content(index), f"{where}/{index}").weight_map if index and SAFETENSORS in index else None
    shards = sorted(set(weight_map.values())) if weight_map else list(chosen)
    if not shards or not shards[0].endswith(SAFETENSORS):
        inner = sorted({path.rpartition("/")[0] for path in pinned.files if path.endswith(SAFETENSORS)})
        raise CheckpointError(
            f"{where} holds no safetensors weights" + (f" at its top, only in {', '.join(inner[:5])}" if inner else ""),
            where=str(pinned),
            must_be="a repository with .safetensors files",
            fix=f"fetch it with `merging pull {where} FOLDER` and name the folder"
            if inner or chosen or index
            else None,
        )
    return shards, weight_map


def _refuse_flood(pinned: Pinned, shards: Sequence[str]) -> None:
    """Refuse a repository of more, or larger, files than any model needs, before one of them is fetched."""
    beside = sidecar_names(pinned.files)
    large = [name for name in beside if pinned.files[name].size > SIDECAR_LIMIT]
    problems = [
        CheckpointError(
            f"{name} is {pinned.files[name].size:,} bytes long",
            where=str(pinned),
            must_be=f"at most {SIDECAR_LIMIT:,} bytes",
        )
        for name in large
    ]
    for what, names, limit in (("shards", shards, SHARD_LIMIT), ("files beside the weights", beside, SIDECARS_LIMIT)):
        if len(names) > limit:
            problems.append(
                CheckpointError(f"there are {len(names):,} {what}", where=str(pinned), must_be=f"at most {limit:,}")
            )
    raise_some(problems)


def _headers(hub: Hub, pinned: Pinned, shards: Sequence[str]) -> dict[str, Header]:
    """The header of every file, some asked for at the same time. Raises all problems at once."""

    def read(shard: str) -> Header | MergingError:
        try:
            held = cached_file(pinned, shard)
            source: ByteSource = LocalBytes(held) if held else ExactBytes(RangeBytes(hub, pinned, pinned.files[shard]))
            return read_header(source, f"{pinned}/{shard}")
        except MergingError as error:
            return error.with_traceback(None)

    found = dict(zip(shards, done_together([partial(read, shard) for shard in shards], TOGETHER), strict=True))
    raise_flat([each for each in found.values() if isinstance(each, MergingError)])
    return {shard: header for shard, header in found.items() if isinstance(header, Header)}


def _small(hub: Hub, pinned: Pinned, name: str, limit: int) -> bytes:
    """A small file, by way of the cache. Raises HubError, CheckpointError."""
    size = pinned.files[name].size
    if size > limit:
        raise CheckpointError(f"{name} is {size:,} bytes long", where=str(pinned), must_be=f"at most {limit:,} bytes")
    return download(hub, pinned, name).read_bytes()
