"""The preflight: every question that headers can answer, answered from headers alone."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from merging.checkpoint.tensors import Checkpoint
from merging.errors import MergingError, OutputError, raise_all
from merging.hub.fetching import Fetch
from merging.planning.build import GiB, Wishes, draft
from merging.planning.choose import choose, fitting_workers, total
from merging.planning.plan import Plan
from merging.planning.remote import fetched_bytes, room_problems
from merging.recipe.recipe import Recipe

# What an unfinished run leaves in its folder.
STATE = ".merging"
# Headers, config, tokenizer and records, beside the weights.
EXTRA_BYTES = 1 << 20


@dataclass(frozen=True)
class Report:
    """Everything found. Bytes are 0 where there is no plan; `free_bytes` is None where no target was named.

    `fetched_bytes` come from the Hub.
    """

    problems: tuple[MergingError, ...]
    warnings: tuple[str, ...]
    plan: Plan | None
    tensors: int = 0
    read_bytes: int = 0
    disk_bytes: int = 0
    free_bytes: int | None = None
    memory_bytes: int = 0
    fetched_bytes: int = 0

    @property
    def good(self) -> bool:
        """Whether the merge can start."""
        return not self.problems

    def raise_problems(self) -> None:
        """Raise what was found, all together; nothing when all is well."""
        raise_all(self.problems)


def check(
    recipe: Recipe | str | Path,
    *,
    out: Path | str | None = None,
    overwrite: bool = False,
    resume: bool = True,
    memory: int = 4 * GiB,
    shard_bytes: int = 5_000_000_000,
    device: str = "cpu",
    allow_pickle: bool = False,
    lenient: bool = False,
    allow_unused: bool = False,
    fetch: Fetch = "snapshot",
    keeps_weights: bool = True,
    checkpoints: Mapping[str, Checkpoint] | None = None,
) -> Report:
    """Would this merge work? Collects every problem; reads no tensor and writes nothing.

    With `out`, also whether the target is free and its disk large enough. Weights that do not stay there, but go to the
    Hub while they are made, take no room here; whether those on their way need some depends on the Hub, and the run
    looks before it begins. The other arguments are those of `plan`.
    """
    wishes = Wishes(memory, shard_bytes, device, allow_pickle, lenient, allow_unused, fetch, checkpoints)
    drafted = draft(recipe, wishes)
    problems = list(drafted.problems)
    folder = None if out is None else Path(out)
    problems += _folder_problems(folder, overwrite, resume) if folder else []
    made = drafted.plan
    if made is None:
        return Report(tuple(problems), tuple(drafted.warnings), None)
    choices = [choose(job, made.models) for job in made.jobs]
    cost = total(choices, memory, fitting_workers(choices, memory))
    disk = (cost.written_bytes if keeps_weights else 0) + cost.spooled_bytes + EXTRA_BYTES
    free = _free_bytes(folder) if folder else None
    if folder and free is not None and free < disk - _already_written(folder):
        problems.append(_full(folder, free, disk))
    problems += room_problems(made, _free_bytes)
    sizes = (len(made.jobs), cost.read_bytes, disk, free, cost.memory_bytes, fetched_bytes(made, choices))
    return Report(tuple(problems), tuple(drafted.warnings), made, *sizes)


def _full(folder: Path, free: int, disk: int) -> MergingError:
    return OutputError(
        f"the disk of {folder} has {free:,} bytes free, and the output takes {disk:,}",
        must_be=f"at least {disk:,} bytes free",
        fix="free space, name a folder on another disk, or write a narrower `out_dtype`",
    )


def _folder_problems(folder: Path, overwrite: bool, resume: bool) -> list[MergingError]:
    if folder.exists() and not folder.is_dir():
        return [OutputError(f"{folder} is a file", must_be="a new or empty folder", fix="name another one")]
    if not folder.is_dir() or overwrite:
        return []
    held = sorted(path.name for path in folder.iterdir())
    if not held or (resume and STATE in held):
        return []
    return [
        OutputError(
            f"{folder} is not empty",
            where=", ".join(held[:5]),
            must_be="a new or empty folder",
            fix="name another folder, or pass --overwrite",
        )
    ]


def _free_bytes(folder: Path) -> int:
    """Bytes free where the folder is, or will be."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    return shutil.disk_usage(existing).free


def _already_written(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.glob("*.partial"))
