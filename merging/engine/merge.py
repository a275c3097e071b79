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
    from merging.engine.delivery import Delivery
    from merging.recipe.recipe import Recipe


@dataclass(frozen=True)
class Result:
    """What a finished merge left: files in order, wall seconds, entries that are not finite, warnings.

    `published` says where the weights went that were delivered.
    """

    plan: Plan
    files: tuple[Path, ...]
    seconds: float
    non_finite: int
    warnings: tuple[str, ...]
    published: Mapping[str, Any] | None = None


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
    deliver: Delivery | None = None,
    **planning: Any,
) -> Result:
    """Merge by a recipe (a path, YAML text, or a `Recipe`) into a folder or a sink.

    `checkpoints` stands in for sources named in the recipe; `watch` is called with every event; `deliver` is where the
    weights go instead of the folder; further keywords go to `plan` (memory, shard_bytes, device, …). Raises
    MergingError, all problems at once, before anything is written.
    """
    planned = make_plan(recipe, checkpoints=checkpoints, **planning)
    seconds, non_finite = 0.0, 0
    files: tuple[Path, ...] = ()
    warnings: list[str] = []
    published: Mapping[str, Any] | None = None
    settings: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "workers": workers, "deliver": deliver}
    for event in run(planned, out, allow_unused=allow_unused, **settings):
        if watch is not None:
            watch(event)
        match event:
            case TensorDone():
                non_finite += event.non_finite
            case Warned():
                warnings.append(event.text)
            case Sealed():
                files, seconds, published = event.files, event.seconds, event.published
    return Result(planned, files, seconds, non_finite, tuple(warnings), published)
