"""The points of a sweep as they come: kept in the job's folder, in a table, and told at the end."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merging.cli.text import printable, show_warning
from merging.errors import MergingError, OutputError
from merging.sweep.sweep import Point, best, pareto, point_from, tidy

if TYPE_CHECKING:
    from merging.jobs.worker import Worker

# Points that are listed at the end.
SHOWN = 5


class Book:
    """All points found so far, those of an earlier run of the same job among them."""

    def __init__(
        self, planned: Sequence[Mapping[str, Any]], worker: Worker | None, table: Path | None, *, quiet: bool = False
    ):
        from merging.jobs.files import Lines, read_lines
        from merging.jobs.state import POINTS_FILE

        self._planned = planned
        self._table = table
        self._quiet = quiet
        self._found: dict[int, Point] = {}
        self._lines: Lines | None = None
        if worker is not None:
            # Points that failed are tried again; so are those of a grid that was another one then.
            kept = [point_from(row) for row in read_lines(worker.folder / POINTS_FILE)]
            self._found = {point.point: point for point in kept if point is not None and self._holds(point)}
            self._lines = Lines(worker.folder / POINTS_FILE)
            worker.expect(len(planned), len(self._found))

    def _holds(self, point: Point) -> bool:
        return bool(point.scores) and point.point < len(self._planned) and point.values == self._planned[point.point]

    @property
    def done(self) -> frozenset[int]:
        """Places in the grid that need not be visited."""
        return frozenset(self._found)

    @property
    def points(self) -> list[Point]:
        """What was found, in the order of the grid."""
        return [self._found[i] for i in sorted(self._found)]

    def add(self, point: Point) -> None:
        """Keep a point and say what it is. Raises OutputError when the table cannot be written."""
        self._found[point.point] = point
        if self._lines is not None:
            self._lines.add(point.data())
        if self._table is not None:
            _write(self._table, self.points)
        if not self._quiet:
            outcome = f"mean {point.mean:.4f}" if point.mean is not None else f"failed: {point.error}"
            text = f"{len(self._found)}/{len(self._planned)}  {_spelled(point)}  {outcome}  {point.seconds:.1f} s"
            click.echo(printable(text), err=True)

    def require_scores(self) -> None:
        """Raise MergingError when nothing could be scored; warn when only some could."""
        failed = [point for point in self.points if point.error is not None]
        if failed and len(failed) == len(self._found):
            raise MergingError(f"no point could be merged and scored; the first: {failed[0].error}")
        if failed:
            show_warning(f"{len(failed)} of {len(self._found)} points failed; the first: {failed[0].error}")


def _spelled(point: Point) -> str:
    return " ".join(f"{axis}={json.dumps(value)}" for axis, value in point.values.items())


def _write(path: Path, points: Sequence[Point]) -> None:
    """The table, whole or not at all."""
    columns, rows = tidy(points)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(text.getvalue(), encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", fix="name another file after --table") from None


def report(points: Sequence[Point], as_json: bool) -> None:
    """The best points by their mean, the best of each task, and those that no other beats in every task."""
    tasks = list(dict.fromkeys(task for point in points for task in point.scores))
    front = [points[i].point for i in pareto(points)]
    leaders = {task: found for task in tasks if (found := best(points, task)) is not None}
    first = best(points)
    if as_json:
        data = {
            "points": [point.data() for point in points],
            "best": None if first is None else first.point,
            "best_by_task": {task: point.point for task, point in leaders.items()},
            "pareto": front,
        }
        click.echo(json.dumps(data, indent=2))
        return
    scored = sorted((point for point in points if point.scores), key=lambda point: -(point.mean or 0.0))
    lines = [f"{point.mean:.4f}  {_spelled(point)}" for point in scored[:SHOWN]]
    if len(tasks) > 1:
        wide = max(map(len, tasks))
        lines += ["", "best of each task"]
        lines += [
            f"  {task.ljust(wide)}  {point.scores[task]:.4f}  {_spelled(point)}" for task, point in leaders.items()
        ]
        lines += ["", f"not beaten in every task by any other: {len(front)} of {len(scored)}"]
        lines += [f"  {point.mean:.4f}  {_spelled(point)}" for point in points if point.point in front]
    click.echo(printable("\n".join(lines)))
