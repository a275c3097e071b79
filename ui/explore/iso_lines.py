"""Lines of equal score in the plane, from scores measured on a grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

Row = dict[str, Any]
# Between neighbouring lines; the first with which few enough fit between the lowest and the highest score.
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
MOST_LINES = 6


class Vertex(NamedTuple):
    """A measured point of a grid, in the plane."""

    x: float
    y: float
    mean: float


def iso_lines(mesh: Sequence[Sequence[Vertex | None]], levels: Sequence[float]) -> list[Row]:
    """Where a score measured on a grid takes each level: straight pieces within the cells that are complete.

    Each cell is cut into two triangles; within a triangle the score is taken to be linear.
    """
    return [row for corners in _triangles(mesh) for level in levels if (row := _cut(corners, level))]


def _triangles(mesh: Sequence[Sequence[Vertex | None]]) -> Iterator[tuple[Vertex, Vertex, Vertex]]:
    """The halves of all cells whose corners are measured."""
    for upper, lower in pairwise(mesh):
        for (a, c), (b, d) in pairwise(zip(upper, lower, strict=True)):
            if a and b and c:
                yield a, b, c
            if b and c and d:
                yield b, c, d


def _cut(corners: Sequence[Vertex], level: float) -> Row | None:
    """The piece of an iso-line in one triangle."""
    ends = []
    for p, q in ((corners[0], corners[1]), (corners[1], corners[2]), (corners[2], corners[0])):
        if (p.mean < level) != (q.mean < level):
            share = (level - p.mean) / (q.mean - p.mean)
            ends.append((p.x + share * (q.x - p.x), p.y + share * (q.y - p.y)))
    if len(ends) != 2:
        return None
    return {"x": ends[0][0], "y": ends[0][1], "x2": ends[1][0], "y2": ends[1][1], "mean": level}


def levels(means: Sequence[float], count: int = 6) -> list[float]:
    """Round levels between the lowest and the highest score, at most `count`."""
    low, high = min(means, default=0.0), max(means, default=0.0)
    step = next((step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / step <= count), 0.5)
    first = int(low / step) + 1
    return [round(k * step, 6) for k in range(first, int(high / step) + 1)]
