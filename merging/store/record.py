"""What store.json says: the tasks by name, the base model they stand on, and how every tensor comes back.

A tensor comes back in one of three ways: `vector` is  base + scale mask vector,  with a scale for each task; `base` is
the base model's own; `copy` lies in the store because the base model has none. What is stored is called after the
tensor: "vector.NAME", "mask.2.NAME" for the second task, "copy.NAME".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from merging.checkpoint.folders import CONFIG_LIMIT, parse_config
from merging.checkpoint.headers import AXIS_LIMIT, name_fault, raise_some, shown
from merging.checkpoint.tensors import DTYPES, TensorSpec
from merging.errors import CheckpointError
from merging.store.bits import packed_bytes
from merging.store.files import LocalFiles, StoreFiles

# How a recipe names a task: `store:`, the store, "#" and the task.
STORE = "store:"
RECORD = "store.json"
INDEX = "store.safetensors.index.json"
FORMAT = 1
# The dtype of a vector, which the record leaves to the files.
ANY_FLOAT = ""

Way: TypeAlias = Literal["vector", "base", "copy"]


@dataclass(frozen=True, slots=True)
class Kept:
    """How a tensor comes back: `base` is its name in the base model, `scales` the place of its scales, one a task."""

    spec: TensorSpec
    way: Way
    base: str = ""
    scales: int = 0


@dataclass(frozen=True)
class StoreRecord:
    """The part of store.json that models are restored by; `base` is a source seen from the store's folder."""

    tasks: tuple[str, ...]
    base: str
    base_fingerprint: str
    tensors: tuple[Kept, ...]
    scales: tuple[tuple[float, ...], ...]

    def data(self) -> dict[str, Any]:
        """The record as JSON data."""
        return {
            "format": FORMAT,
            "tasks": list(self.tasks),
            "base": {"source": self.base, "fingerprint": self.base_fingerprint},
            "scales": [list(each) for each in self.scales],
            "tensors": [_tensor_data(kept) for kept in self.tensors],
        }

    def stored(self, vector_dtype: Callable[[str], str]) -> Iterator[tuple[int, TensorSpec]]:
        """Every tensor that lies in the store, with its task's number, 0 for what all tasks share."""
        for kept in self.tensors:
            spec = kept.spec
            if kept.way == "copy":
                yield 0, TensorSpec(copy_name(spec.name), spec.shape, spec.dtype)
            elif kept.way == "vector":
                yield 0, TensorSpec(vector_name(spec.name), spec.shape, vector_dtype(spec.name))
                for number in range(1, len(self.tasks) + 1):
                    yield number, TensorSpec(mask_name(number, spec.name), (packed_bytes(spec.entries),), "U8")


def vector_name(tensor: str) -> str:
    """Where the unified task vector of a tensor lies."""
    return f"vector.{tensor}"


def mask_name(number: int, tensor: str) -> str:
    """Where the mask of a tensor for the task of this number, counted from 1, lies."""
    return f"mask.{number}.{tensor}"


def copy_name(tensor: str) -> str:
    """Where a tensor lies that is kept as it is."""
    return f"copy.{tensor}"


def _tensor_data(kept: Kept) -> dict[str, Any]:
    data: dict[str, Any] = {"name": kept.spec.name, "shape": list(kept.spec.shape), "dtype": kept.spec.dtype}
    data["way"] = kept.way
    if kept.way != "copy" and kept.base != kept.spec.name:
        data["base"] = kept.base
    return {**data, "scales": kept.scales} if kept.way == "vector" else data


def is_store(place: Path | StoreFiles) -> bool:
    """Whether a folder, or whatever else holds files, says that it is a store."""
    files = LocalFiles(place) if isinstance(place, Path) else place
    return files.has(RECORD) and files.has(INDEX)


def read_store_record(files: StoreFiles) -> StoreRecord:
    """The record of a store, every field of it checked. Raises CheckpointError, HubError or Problems."""
    if not files.has(RECORD):
        raise CheckpointError(
            f"{files.name} is no store",
            where=files.where if files.where != files.name else None,
            must_be=f"a folder or repository with {RECORD}, which `merging compress` writes last",
        )
    where = f"{files.where}/{RECORD}"
    data = parse_config(files.content(RECORD, CONFIG_LIMIT), RECORD, files.where)
    if data.get("format") != FORMAT:
        fix = "read it with a version of merging that knows this format"
        raise CheckpointError(
            f"the store's format is {shown(data.get('format'))}", where=where, must_be=str(FORMAT), fix=fix
        )
    faults = [*_head_faults(data), *_scale_faults(data), *_tensor_faults(data)]
    raise_some([CheckpointError(fault, where=where) for fault in faults])
    return StoreRecord(
        tuple(data["tasks"]),
        data["base"]["source"],
        data["base"]["fingerprint"],
        tuple(map(_kept, data["tensors"])),
        tuple(tuple(map(float, each)) for each in data["scales"]),
    )


def _kept(entry: Mapping[str, Any]) -> Kept:
    spec = TensorSpec(entry["name"], tuple(entry["shape"]), entry["dtype"])
    return Kept(spec, entry["way"], entry.get("base", entry["name"]), entry.get("scales", 0))


def _head_faults(data: Mapping[str, Any]) -> Iterator[str]:
    tasks, base = data.get("tasks"), data.get("base")
    if not isinstance(tasks, list) or not tasks or not all(isinstance(each, str) and each for each in tasks):
        yield f"the tasks are {shown(tasks)}, and must be a list of names"
    elif len(set(tasks)) < len(tasks):
        yield f"two tasks have one name: {shown(tasks)}"
    if not isinstance(base, dict) or not all(isinstance(base.get(key), str) for key in ("source", "fingerprint")):
        yield f"the base is {shown(base)}, and must have a source and a fingerprint"


def _scale_faults(data: Mapping[str, Any]) -> Iterator[str]:
    tasks, scales = data.get("tasks"), data.get("scales")
    count = len(tasks) if isinstance(tasks, list) else 0
    if not isinstance(scales, list):
        yield f"the scales are {shown(scales)}, and must be lists of one number a task"
        return
    for each in scales:
        if not isinstance(each, list) or len(each) != count or not all(map(_is_number, each)):
            yield f"scales are {shown(each)}, and must be {count} finite numbers, one a task"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _tensor_faults(data: Mapping[str, Any]) -> Iterator[str]:
    tensors, scales = data.get("tensors"), data.get("scales")
    if not isinstance(tensors, list) or not tensors:
        yield f"the tensors are {shown(tensors)}, and must be a list"
        return
    seen: set[str] = set()
    for entry in tensors:
        fault = _entry_fault(entry, len(scales) if isinstance(scales, list) else 0)
        if fault:
            yield f"tensor {shown(entry)}: {fault}"
        elif entry["name"] in seen:
            yield f"two tensors are called {shown(entry['name'])}"
        else:
            seen.add(entry["name"])


def _entry_fault(entry: object, scales: int) -> str | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return "it has no name"
    shape, dtype, way = entry.get("shape"), entry.get("dtype"), entry.get("way")
    if not isinstance(entry.get("base", ""), str):
        return "its name in the base model is no text"
    if not isinstance(shape, list) or len(shape) > AXIS_LIMIT or not all(_is_count(axis) for axis in shape):
        return f"its shape is {shown(shape)}"
    if not isinstance(dtype, str) or dtype not in DTYPES or way not in get_args(Way):
        return f"its dtype is {shown(dtype)} and its way {shown(way)}"
    if way != "vector":
        return name_fault(entry["name"])
    place = entry.get("scales")
    if DTYPES[dtype].kind != "float":
        return f"entries of {dtype} cannot be changed by a vector"
    if place not in range(scales) or not _is_count(place):
        return f"its scales are number {shown(place)} of {scales}"
    return name_fault(entry["name"])


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def task_names(sources: Sequence[str]) -> tuple[str, ...]:
    """A name for each model, the last part of its source; with its number where two would have one name.

    >>> task_names(["models/math", "ada/code@v1", "base+./lora-law", "other/math", "store:ada/tasks@v2#art"])
    ('math-1', 'code', 'lora-law', 'math-4', 'art')
    """
    names = [_last_name(source) or "task" for source in sources]
    numbered = [f"{name}-{i}" for i, name in enumerate(names, 1)]
    alone = [names.count(name) == 1 and not name.isdigit() and name not in numbered for name in names]
    return tuple(name if is_alone else other for name, other, is_alone in zip(names, numbered, alone, strict=True))


def _last_name(source: str) -> str:
    if source.startswith(STORE) and "#" in source:
        return source.rpartition("#")[2]
    return source.split("+")[-1].partition("@")[0].rstrip("/").rpartition("/")[2]
