"""Which files of a folder are a checkpoint, and which of its links may be followed.

A folder holds either one file, or shards with an index, or a complete set numbered <stem>-00001-of-0000n. A link may
lead anywhere inside the folder; in a snapshot of a Hub cache also to that repository's blobs.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merging.checkpoint.bytes import LocalBytes
from merging.checkpoint.headers import INDEX_LIMIT, parse_index, shown
from merging.errors import CheckpointError, MergingError, nearest, raise_all

SAFETENSORS = ".safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
# What libraries look for by name, before anything else in the folder.
STEMS = ("model", "diffusion_pytorch_model", "pytorch_model")
ADAPTER = "adapter_config.json"
# What trainers leave beside the weights.
_BESIDE = re.compile(r"(adapter_model|training_args|optimizer|scheduler|scaler|rng_state\w*)\.")
CONFIG_LIMIT = 25_000_000  # bytes
_INDEX = re.compile(r"(?P<stem>.+)(?P<suffix>\.safetensors|\.bin)\.index(\.[\w-]+)?\.json")
_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")


@dataclass(frozen=True, slots=True)
class Weights:
    """The files of one checkpoint, in order; `weight_map` from the index, None where there is none."""

    files: tuple[Path, ...]
    pickled: bool
    weight_map: Mapping[str, str] | None = None


def follow(folder: Path, name: str) -> Path:
    """The file that a name in the folder leads to. Raises CheckpointError when a link leads out of it."""
    try:
        home = folder.resolve()
        target = (home / name).resolve()
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot follow {name}: {error}", where=str(folder)) from None
    snapshots = [each for each in (home, *home.parents) if each.parent.name == "snapshots"]
    homes = [home, *(each.parent.parent / "blobs" for each in snapshots)]
    if not any(target.is_relative_to(each) for each in homes):
        raise CheckpointError(
            f"{name} is a link that leads out of its folder",
            where=str(folder),
            must_be="a file of the folder, or in a Hub cache a blob of the same repository",
            fix="copy the file there if you trust it",
        )
    return target


def find_weights(path: Path, *, allow_pickle: bool = False) -> Weights:
    """The weight files that a folder, an index or a file stands for. Raises CheckpointError."""
    try:
        return _in_folder(path, allow_pickle) if path.is_dir() else _named(path, allow_pickle)
    except OSError as error:
        raise CheckpointError(f"cannot open {path}: {error.strerror}") from None


def _named(path: Path, allow_pickle: bool) -> Weights:
    if not path.exists():
        beside = sorted(each.name for each in path.parent.iterdir()) if path.parent.is_dir() else []
        close = nearest(path.name, beside)
        raise CheckpointError(
            f"there is no file or folder {path}", fix=f"did you mean {path.parent / close[0]}?" if close else None
        )
    if _INDEX.fullmatch(path.name):
        return _by_index(path.parent, path.name, allow_pickle)
    if path.suffix == SAFETENSORS:
        return Weights((path,), pickled=False)
    if path.suffix in PICKLES:
        _refuse_pickle(path.name, path.parent, allow_pickle)
        return Weights((path,), pickled=True)
    raise CheckpointError(
        f"{path} is no checkpoint", must_be="a folder, a .safetensors file, an index, or a .bin or .pt file"
    )


def _in_folder(folder: Path, allow_pickle: bool) -> Weights:
    names = sorted(each.name for each in folder.iterdir())
    index, chosen = choose_weights(folder, names, lambda name: read_small(folder, name, INDEX_LIMIT))
    if index:
        return _by_index(folder, index, allow_pickle)
    if not chosen:
        must_be = "a folder with .safetensors files"
        raise CheckpointError(f"{folder} holds no weights", must_be=must_be, fix=_advice(folder))
    pickled = not chosen[0].endswith(SAFETENSORS)
    if pickled:
        _refuse_pickle(chosen[0], folder, allow_pickle)
    return Weights(tuple(follow(folder, name) for name in chosen), pickled=pickled)


def choose_weights(
    folder: Path, names: Sequence[str], content: Callable[[str], bytes]
) -> tuple[str | None, Sequence[str]]:
    """Of a folder's file names, in order, those that are its checkpoint: an index, or else files; safetensors first.

    `content` reads a small file. Raises CheckpointError where it is not clear which are meant, or some are missing.
    """
    for suffixes in ((SAFETENSORS,), PICKLES):
        index = _choose_index(folder, names, suffixes, content)
        if index:
            return index, ()
        found = [name for name in names if name.endswith(suffixes) and not _BESIDE.match(name)]
        if found:
            return None, _choose_set(folder, found)
    return None, ()


def _choose_index(
    folder: Path, names: Sequence[str], suffixes: Sequence[str], content: Callable[[str], bytes]
) -> str | None:
    matches = [match for name in names if (match := _INDEX.fullmatch(name)) and match["suffix"] in suffixes]
    plain = [match for match in matches if match["stem"] in STEMS and match.group(3) is None]
    chosen = plain if len(plain) == 1 else matches
    if len(chosen) > 1:
        raise _ambiguous(folder, [match.group() for match in chosen])
    if not chosen:
        return None
    index, single = chosen[0].group(), chosen[0]["stem"] + chosen[0]["suffix"]
    if single in names and single not in _weight_map(folder, index, chosen[0]["suffix"], content).values():
        raise _ambiguous(folder, [single, index])
    return index


def _choose_set(folder: Path, names: Sequence[str]) -> list[str]:
    """One file, or one complete numbered set."""
    sets: dict[str, list[str]] = defaultdict(list)
    for name in names:
        match = _NUMBERED.fullmatch(name)
        sets[f"{match['stem']}-of-{match['count']}" if match else name].append(name)
    known = [key for key in sets if re.split(r"-of-|\.", key)[0] in STEMS]
    keys = known if known else list(sets)
    plain = [key for key in known if key.rpartition(".")[0] in STEMS or "-of-" in key]
    keys = plain if len(keys) > 1 and len(plain) == 1 else keys
    if len(keys) > 1:
        raise _ambiguous(folder, [sets[key][0] for key in keys])
    chosen = sets[keys[0]]
    if match := _NUMBERED.fullmatch(chosen[0]):
        count = int(match["count"])
        wanted = [f"{match['stem']}-{i + 1:05d}-of-{count:05d}{match['suffix']}" for i in range(min(count, 100_000))]
        _refuse_missing(folder, [name for name in wanted if name not in chosen])
    return chosen


def _by_index(folder: Path, index: str, allow_pickle: bool) -> Weights:
    suffix = SAFETENSORS if SAFETENSORS in index else ".bin"
    if suffix != SAFETENSORS:
        _refuse_pickle(index, folder, allow_pickle)
    weight_map = _weight_map(folder, index, suffix, lambda name: read_small(folder, name, INDEX_LIMIT))
    return listed_weights(folder, weight_map, suffix)


def listed_weights(folder: Path, weight_map: Mapping[str, str], suffix: str = SAFETENSORS) -> Weights:
    """The files of a folder that an index, or a part of one, names. Raises CheckpointError."""
    names = sorted(set(weight_map.values()))
    _refuse_missing(folder, [name for name in names if not (folder / name).exists()])
    return Weights(tuple(follow(folder, name) for name in names), suffix != SAFETENSORS, weight_map)


def _weight_map(folder: Path, name: str, suffix: str, content: Callable[[str], bytes]) -> Mapping[str, str]:
    return parse_index(content(name), str(folder / name), suffix).weight_map


def read_small(folder: Path, name: str, limit: int) -> bytes:
    """A file of a folder. Raises CheckpointError for one of more than `limit` bytes, or a link that leads out."""
    source = LocalBytes(follow(folder, name))
    if source.size > limit:
        raise CheckpointError(
            f"{name} is {source.size:,} bytes long", where=str(folder), must_be=f"at most {limit:,} bytes"
        )
    content = bytearray(source.size)
    source.read_into(0, memoryview(content))
    return bytes(content)


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A folder's config.json, or another JSON object; empty where there is none. Raises CheckpointError."""
    if not (folder / name).is_file():
        return {}
    return parse_config(read_small(folder, name, CONFIG_LIMIT), name, str(folder))


def parse_config(text: bytes, name: str, where: str) -> dict[str, Any]:
    """The JSON object that a config file holds. Raises CheckpointError."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is no JSON: {str(error)[:200]}", where=where) from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{name} is {shown(config)}", where=where, must_be="a JSON object")
    return config


def _refuse_missing(folder: Path, missing: Iterable[str]) -> None:
    lost = list(missing)
    if lost:
        listed = ", ".join(lost[:20]) + (f" and {len(lost) - 20:,} more" if len(lost) > 20 else "")
        raise CheckpointError(f"shards are missing: {listed}", where=str(folder), fix="fetch them again")


def _refuse_pickle(name: str, folder: Path, allow_pickle: bool) -> None:
    if not allow_pickle:
        raise CheckpointError(
            f"{name} is a pickle, which can carry code",
            where=str(folder),
            must_be="a .safetensors file",
            fix="convert it, or pass --allow-pickle (allow_pickle=True) to read its tensors and nothing else",
        )


def _ambiguous(folder: Path, names: Sequence[str]) -> MergingError:
    return CheckpointError(
        f"it is not clear which weights are meant: {', '.join(names[:10])}",
        where=str(folder),
        must_be="one file, one index, or one complete numbered set",
        fix=f"name one of them, such as {folder / names[0]}",
    )


def _advice(folder: Path) -> str | None:
    if (folder / ADAPTER).exists():
        return f"this is an adapter: write its base model, then + lora:{folder}"
    if (folder / "model_index.json").exists():
        parts = sorted(each.parent.name for each in folder.glob("*/*.safetensors"))
        return "this is a pipeline; name one of its components: " + ", ".join(dict.fromkeys(parts))
    return None


def raise_flat(problems: Iterable[MergingError]) -> None:
    """Raise nothing, the one problem, or all together; lists of problems are joined."""
    raise_all([each for problem in problems for each in getattr(problem, "problems", (problem,))])
