"""One call: read a recipe, plan it, carry it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merging.checkpoint.tensors import Checkpoint
from merging.engine.events import Event, Sealed, TensorDone, Warned
from merging.engine.run import run
from merging.planning.build import plan as make_plan
from merging.planning.plan import Plan

if TYPE_CHECKING:
    from merging.checkpoint.sink import Sink
    from merging.recipe.recipe import Recipe


@dataclass(frozen=True)
class Result:
    """What a finished merge left: files in order, wall seconds, entries that are not finite, warnings."""

    plan: Plan
    files: tuple[Path, ...]
    seconds: float
    non_finite: int
    warnings: tuple[str, ...]


def merge(
    recipe: Recipe | str | Path,
    out: Path | str | Sink,
    *,
    checkpoints: Mapping[str, Checkpoint] | None = None,
    watch: Callable[[Event], None] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    allow_unused: bool = False,
    **planning: Any,
) -> Result:
    """Merge by a recipe (a path, YAML text, or a `Recipe`) into a folder or a sink.

    `checkpoints` stands in for sources named in the recipe; `watch` is called with every event; further keywords go to
    `plan` (memory, shard_bytes, device, …). Raises MergingError, all problems at once, before anything is written.
    """
    planned = make_plan(recipe, checkpoints=checkpoints, **planning)
    seconds, non_finite = 0.0, 0
    files: tuple[Path, ...] = ()
    warnings: list[str] = []
    for event in run(planned, out, resume=resume, overwrite=overwrite, workers=workers, allow_unused=allow_unused):
        if watch is not None:
            watch(event)
        match event:
            case TensorDone():
                non_finite += event.non_finite
            case Warned():
                warnings.append(event.text)
            case Sealed():
                files, seconds = event.files, event.seconds
    return Result(planned, files, seconds, non_finite, tuple(warnings))
