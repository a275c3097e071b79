"""Many fine-tunes as one vector, a bit per entry and a number for each: compressed in one streamed run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merging.checkpoint.folders import raise_flat
from merging.checkpoint.tensors import Checkpoint
from merging.engine.events import Event, Sealed, Warned
from merging.engine.keep_work import StorePasses
from merging.engine.lane import require_device
from merging.engine.ledger import refuse_silent
from merging.engine.store_folder import StoreFolder, not_a_folder, occupied
from merging.engine.store_plan import StorePlan, plan_store
from merging.errors import MergingError, raise_all
from merging.methods.application import BLOCK

if TYPE_CHECKING:
    from merging.recipe.recipe import Recipe


@dataclass(frozen=True)
class Compressed:
    """What was kept: the tasks by name, the weight files in order, their bytes, wall seconds, warnings."""

    folder: Path
    tasks: tuple[str, ...]
    files: tuple[Path, ...]
    nbytes: int
    seconds: float
    warnings: tuple[str, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """What a recipe calls each of the tasks."""
        return tuple(f"store:{self.folder}#{task}" for task in self.tasks)


def compress(
    recipe: Recipe | str | Path,
    out: Path | str,
    *,
    checkpoints: Mapping[str, Checkpoint] | None = None,
    watch: Callable[[Event], None] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    allow_unused: bool = False,
    **planning: Any,
) -> Compressed:
    """Keep the tasks of all models of a recipe (a path, YAML text, or a `Recipe`) in one folder.

    The recipe's method must keep tasks, as `emr` and `tall_masks` do; it decides what the one vector is, which entries
    of it serve which task, and how much each is scaled. The vector is stored in the recipe's `out_dtype` or `dtype`,
    else in float32; then every task comes back as `merging run` would have made it, bit for bit. Each of them is a
    source for recipes and commands: `store:OUT#task`. The base model is not in the folder; it must stay where it is.

    Takes the memory of a merge. A run that was interrupted goes on. A folder that holds anything is refused, unless
    `overwrite` says that a merge or a store there is replaced once the new store is computed. Further keywords go to
    `plan`. Raises MergingError, all problems at once, before anything is written.
    """
    folder = Path(out)
    store = prepare(recipe, folder, overwrite=overwrite, checkpoints=checkpoints, allow_unused=allow_unused, **planning)
    sealed: Sealed | None = None
    warnings: list[str] = []
    running = keep(store, folder, resume=resume, overwrite=overwrite, workers=workers, allow_unused=allow_unused)
    for event in running:
        if watch is not None:
            watch(event)
        if isinstance(event, Warned):
            warnings.append(event.text)
        if isinstance(event, Sealed):
            sealed = event
    assert sealed
    return Compressed(folder, store.record.tasks, sealed.files, store.nbytes, sealed.seconds, tuple(warnings))


def prepare(recipe: Recipe | str | Path, folder: Path, *, overwrite: bool = False, **planning: Any) -> StorePlan:
    """What would be kept in a folder, from headers alone; nothing is written.

    Raises MergingError with all that is wrong with the recipe, its models, the folder and the room on its disk.
    """
    store: StorePlan | None = None
    problems: list[MergingError] = []
    try:
        store = plan_store(recipe, out=folder, **planning)
        problems += StoreFolder(folder, store).problems(overwrite)
    except MergingError as error:
        found = not_a_folder(folder) if overwrite else occupied(folder)
        problems += [error, *([found] if found else [])]
    raise_flat(problems)
    assert store
    return store


def keep(
    store: StorePlan,
    out: Path | str,
    *,
    resume: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    allow_unused: bool = False,
    block: int = BLOCK,
) -> Iterator[Event]:
    """Carry out the plan of a store; iterate to the end, the last event is `Sealed`.

    An interrupted run goes on where it stopped when called again with the same plan. `block` entries are computed at
    once; it changes no bit. Raises OutputError (folder, space, memory), SilentMergeError, CheckpointError, HubError.
    """
    require_device(store.plan.device)
    began = time.perf_counter()
    folder = StoreFolder(Path(out), store)
    sink = folder.open(resume, overwrite)
    try:
        passes = StorePasses(store.plan, sink, workers, block, record=folder.journal.add)
        passes.keep(folder.held(sink), {})
        rows = yield from passes.events()
        if not allow_unused:
            raise_all(refuse_silent(store.plan, rows.values()))
        yield Sealed(tuple(folder.seal(sink, rows)), time.perf_counter() - began)
    finally:
        folder.close()
