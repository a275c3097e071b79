"""One recipe at every point of a grid, each merge scored; what came of it as tidy rows."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, TypeAlias

from merging.checkpoint.shards import open_checkpoint
from merging.checkpoint.sink import MemorySink
from merging.checkpoint.tensors import Checkpoint, MemoryCheckpoint
from merging.engine.run import run
from merging.errors import MergingError, raise_all
from merging.methods.declare import find_method
from merging.planning.build import plan
from merging.planning.plan import Plan
from merging.recipe.recipe import Recipe, Scalar
from merging.recipe.source import open_source
from merging.recipe.variants import grid, vary

Score: TypeAlias = Callable[[Checkpoint], Mapping[str, float]]


@dataclass(frozen=True)
class Point:
    """One merge of a sweep: its place in the grid, the axes' values, what it scored, and in how many seconds.

    `scores` are by task, larger is better; empty where `error` says why there are none.
    """

    point: int
    values: Mapping[str, Scalar]
    scores: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None

    @property
    def mean(self) -> float | None:
        """Mean over the tasks; None where the point failed."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else None

    def data(self) -> dict[str, Any]:
        """The point as JSON data."""
        return {
            "point": self.point,
            "values": dict(self.values),
            "scores": dict(self.scores),
            "mean": self.mean,
            "seconds": round(self.seconds, 4),
            "error": self.error,
        }


def point_from(data: Mapping[str, Any]) -> Point | None:
    """The point that `Point.data` described; None for anything else."""
    values, scores = data.get("values"), data.get("scores")
    numbers = [data.get("point"), data.get("seconds"), *(scores.values() if isinstance(scores, dict) else ())]
    if not isinstance(values, dict) or not isinstance(scores, dict):
        return None
    if not all(isinstance(number, int | float) for number in numbers):
        return None
    return Point(int(data["point"]), values, scores, float(data["seconds"]), data.get("error"))


def sweep(
    recipe: Recipe,
    axes: Mapping[str, Sequence[Scalar]],
    score: Score,
    *,
    on_disk: Path | None = None,
    done: Collection[int] = (),
    checkpoints: Mapping[str, Checkpoint] | None = None,
    workers: int | None = None,
    at_once: int = 1,
    **planning: Any,
) -> Generator[Point]:
    """Merge `recipe` at every point of the grid of `axes` and score it; points come as they are done.

    Axes are named as `vary` in recipe/variants.py says: "lambda", "weight[0]", "weight.math". A merge is made in memory
    and handed to `score`, or in a temporary folder under `on_disk`, where the checkpoint's `location` says. Models are
    opened once. An error at one point is recorded in it and stops no other; `done` are points to be left out.
    `at_once` points are worked on side by side, each with its merge in memory; `score` is then called from threads.

    Raises what is wrong with the grid or with opening the models, all at once, before the first merge.
    """
    points = list(enumerate(grid(axes)))
    _check_axes(recipe, axes)
    opened = {**_opened(recipe, checkpoints or {}, bool(planning.get("allow_pickle"))), **(checkpoints or {})}
    # At lambda 0 nothing is merged in: in a grid that is the point to compare with, and no mistake.
    planning |= {"checkpoints": opened, "allow_unused": True}

    def measured(point: int, values: Mapping[str, Scalar]) -> Point:
        began = time.perf_counter()
        try:
            with _Merged(plan(vary(recipe, values), **planning), on_disk, workers) as merged:
                scores = _checked(score(merged))
        except MergingError as error:
            return Point(point, values, seconds=time.perf_counter() - began, error=str(error))
        except Exception as error:
            text = f"scoring failed with {type(error).__name__}: {error}"
            return Point(point, values, seconds=time.perf_counter() - began, error=text)
        return Point(point, values, scores, time.perf_counter() - began)

    return _carried_out(measured, [(i, values) for i, values in points if i not in done], at_once)


def _carried_out(
    measured: Callable[[int, Mapping[str, Scalar]], Point],
    points: Sequence[tuple[int, Mapping[str, Scalar]]],
    at_once: int,
) -> Generator[Point]:
    if at_once == 1:
        yield from (measured(i, values) for i, values in points)
        return
    pool = ThreadPoolExecutor(at_once)
    try:
        for future in as_completed([pool.submit(measured, i, values) for i, values in points]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _check_axes(recipe: Recipe, axes: Mapping[str, Sequence[Scalar]]) -> None:
    """Raise for every axis that names nothing; a value out of bounds only spoils its own points."""
    find_method(recipe.method, recipe.where("merge_method"))
    problems: list[MergingError] = []
    for axis, values in axes.items():
        faults = [_fault(recipe, axis, value) for value in values]
        if None not in faults:
            problems += [fault for fault in faults[:1] if fault is not None]
    raise_all(problems)


def _fault(recipe: Recipe, axis: str, value: Scalar) -> MergingError | None:
    try:
        vary(recipe, {axis: value})
    except MergingError as problem:
        return problem
    return None


def _opened(recipe: Recipe, given: Mapping[str, Checkpoint], allow_pickle: bool) -> dict[str, Checkpoint]:
    folder = Path(recipe.file).parent if recipe.file else None
    return {
        source: open_source(source, relative_to=folder, allow_pickle=allow_pickle, where=recipe.where_source(source))
        for source in recipe.sources()
        if source not in given
    }


class _Merged:
    """A finished merge for as long as it is looked at, in memory or in a folder that is removed afterwards."""

    def __init__(self, planned: Plan, on_disk: Path | None, workers: int | None):
        self._plan = planned
        self._on_disk = on_disk
        self._workers = workers
        self._folder: Path | None = None

    def __enter__(self) -> Checkpoint:
        if self._on_disk is None:
            sink = MemorySink(job.spec for job in self._plan.jobs)
            self._run(sink)
            return MemoryCheckpoint(sink.tensors(), self._plan.config, "the merge")
        self._folder = Path(tempfile.mkdtemp(prefix=".point-", dir=self._on_disk))
        self._run(self._folder / "merged")
        return open_checkpoint(self._folder / "merged")

    def _run(self, target: Any) -> None:
        events = run(self._plan, target, workers=self._workers, allow_unused=True)
        try:
            for _ in events:
                pass
        finally:
            events.close()  # type: ignore[attr-defined]

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _checked(scores: Mapping[str, float]) -> dict[str, float]:
    good = {str(task): float(value) for task, value in scores.items()}
    bad = [f"{task} {value}" for task, value in good.items() if not isfinite(value)]
    if bad or not good:
        raise MergingError(
            f"the score is {', '.join(bad)}" if bad else "the score names no task", must_be="finite numbers by task"
        )
    return good


def best(points: Sequence[Point], task: str | None = None) -> Point | None:
    """The point of the highest mean, or of the highest score in one task; the first of equals, None of none."""
    scored = [point for point in points if (task in point.scores if task else point.scores)]
    return max(scored, key=lambda point: point.scores[task] if task else point.mean or 0.0, default=None)


def pareto(points: Sequence[Point], tasks: Sequence[str] | None = None) -> list[int]:
    """Positions of the points that no other beats: none is as good in every task and better in one.

    `tasks` are all that the points were scored in when None. Points that lack one of them are left out; equals stay.
    """
    names = list(dict.fromkeys(task for point in points for task in point.scores)) if tasks is None else list(tasks)
    rows = {
        i: tuple(point.scores[task] for task in names)
        for i, point in enumerate(points)
        if names and all(task in point.scores for task in names)
    }
    # Sorted downwards, only an earlier row can beat a later one, and only those that are beaten by none matter.
    front: list[int] = []
    for i in sorted(rows, key=lambda i: rows[i], reverse=True):
        if not any(_beats(rows[other], rows[i]) for other in front):
            front.append(i)
    return sorted(front)


def _beats(a: Sequence[float], b: Sequence[float]) -> bool:
    return a != b and all(x >= y for x, y in zip(a, b, strict=True))


def tidy(points: Sequence[Point]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of a table: point, axes, tasks, mean, seconds, error; None where there is nothing."""
    axes = list(dict.fromkeys(axis for point in points for axis in point.values))
    tasks = list(dict.fromkeys(task for point in points for task in point.scores))
    # A task may be called like an axis.
    columns = ["point", *axes, *(f"{task} score" if task in axes else task for task in tasks)]
    rows = [
        [
            point.point,
            *(point.values.get(axis) for axis in axes),
            *(point.scores.get(task) for task in tasks),
            point.mean,
            round(point.seconds, 4),
            point.error,
        ]
        for point in points
    ]
    return [*columns, "mean", "seconds", "error"], rows
