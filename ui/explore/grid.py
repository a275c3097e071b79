"""A grid over two settings: which there are, the values of each, what the sweep in the background has found so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from merging import Job, Jobs, MergingError, Method, Point, all_methods, pareto
from ui.explore.geometry import Plane
from ui.explore.iso_lines import Vertex
from ui.explore.scene import Scene
from ui.explore.wish import SCALE, WEIGHT, Wish, coefficients, recipe_text, takes_weights, wish_from, with_values

Row = dict[str, Any]
ACTIVE = ("queued", "running")
# Six by six merges of the bundled models take about half a minute.
USUAL_STEPS, MOST_STEPS = 6, 15
WEIGHTS, SCALES, SHARES = (0.0, 1.0), (0.2, 1.6), (0.1, 1.0)


@dataclass(frozen=True)
class Axis:
    """One setting that a grid varies: its name in sweeps, what it is called here, and usual ends."""

    name: str
    label: str
    ends: tuple[float, float]
    bounds: tuple[float | None, float | None]


def axes_of(method: Method, names: Sequence[str]) -> list[Axis]:
    """What a grid may vary: the weight of each model, and every number that all models share."""
    found = []
    if takes_weights(method):
        kind = method.parameters[WEIGHT].kind
        bounds = (kind.minimum, kind.maximum)
        found = [Axis(f"{WEIGHT}[{i}]", f"weight of {name}", WEIGHTS, bounds) for i, name in enumerate(names)]
    for name, knob in method.parameters.items():
        if knob.kind.type != "number" or name == WEIGHT or knob.says.startswith("no effect"):
            continue
        default = float(method.defaults().get(name) or 1.0)
        usual = SHARES if knob.kind.is_share else SCALES if name == SCALE else (default / 2, 2 * default)
        found.append(Axis(name, name, usual, (knob.kind.minimum, knob.kind.maximum)))
    return found


def values_between(first: float, last: float, steps: int) -> list[float]:
    """Evenly spaced values with both ends, as short as they can be said.

    >>> values_between(0.0, 1.0, 5)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if steps < 2 or first == last:
        return [round(first, 6)]
    return [round(first + (last - first) * k / (steps - 1), 6) for k in range(steps)]


@dataclass(frozen=True)
class Grid:
    """A sweep that was started from the page: its job, the wish it varies, the names and values of its two axes."""

    job: str
    wish: Wish
    names: tuple[str, str]
    labels: tuple[str, str]
    values: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def count(self) -> int:
        """Number of points."""
        return len(self.values[0]) * len(self.values[1])

    def data(self) -> dict[str, Any]:
        """The grid as plain values, as a session keeps it."""
        return {
            "job": self.job,
            "wish": self.wish.data(),
            "names": list(self.names),
            "labels": list(self.labels),
            "values": [list(each) for each in self.values],
        }


def grid_from(data: Mapping[str, Any]) -> Grid:
    """The grid that `Grid.data` described."""
    first, second = (tuple(each) for each in data["values"])
    return Grid(data["job"], wish_from(data["wish"]), tuple(data["names"]), tuple(data["labels"]), (first, second))


def start(wish: Wish, tensors: Sequence[Any], axes: tuple[Axis, Axis], values: Sequence[Sequence[float]]) -> Grid:
    """Begin a sweep in the background. Raises what is wrong with it."""
    text = recipe_text(wish, tensors, whole=True)
    varied = {axis.name: list(each) for axis, each in zip(axes, values, strict=True)}
    names, labels = (axes[0].name, axes[1].name), (axes[0].label, axes[1].label)
    job = Jobs().submit_sweep(text, varied, score="zoo", name=f"Explore: {labels[0]} × {labels[1]}")
    return Grid(job.id, wish, names, labels, (tuple(values[0]), tuple(values[1])))


def job_of(grid: Grid) -> Job | None:
    """The grid's job; None where it was removed."""
    try:
        return Jobs().find(grid.job)
    except MergingError:
        return None


def cells(grid: Grid, points: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The points found so far as boxes of a heat map: both values, ends of the box, mean and what failed."""
    edges = [_edges(each) for each in grid.values]
    rows = []
    for point in points:
        found = [point["values"].get(name) for name in grid.names]
        if point.get("mean") is None or any(value is None for value in found):
            continue
        row = {"point": point["point"], "mean": point["mean"], "a": found[0], "b": found[1]}
        for axis, value, ends, held in zip("ab", found, edges, grid.values, strict=True):
            i = min(range(len(held)), key=lambda k: abs(held[k] - value))
            row |= {f"{axis}1": ends[i], f"{axis}2": ends[i + 1]}
        rows.append(row)
    return rows


def _edges(values: Sequence[float]) -> list[float]:
    """Halfway between neighbours, and as far beyond the outer ones."""
    if len(values) == 1:
        return [values[0] - 0.5, values[0] + 0.5]
    inner = [(a + b) / 2 for a, b in pairwise(values)]
    return [2 * values[0] - inner[0], *inner, 2 * values[-1] - inner[-1]]


def front(points: Sequence[Mapping[str, Any]], a: str, b: str) -> list[Row]:
    """Every point by its scores in two tasks, and whether another is better in both."""
    scored = [point for point in points if point.get("scores")]
    kept = set(pareto([Point(point["point"], point["values"], point["scores"]) for point in scored], (a, b)))
    return [
        {
            "point": point["point"],
            "a": point["scores"][a],
            "b": point["scores"][b],
            "mean": point["mean"],
            "front": i in kept,
            "says": ", ".join(f"{name} {value:g}" for name, value in point["values"].items()),
        }
        for i, point in enumerate(scored)
        if a in point["scores"] and b in point["scores"]
    ]


def best(points: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The point of the highest mean score."""
    scored = [point for point in points if point.get("mean") is not None]
    return max(scored, key=lambda point: point["mean"], default=None)


def mesh(scene: Scene, plane: Plane, grid: Grid, points: Sequence[Mapping[str, Any]]) -> list[list[Vertex | None]]:
    """The grid in the plane, rows of its first axis; empty where its merges are no weighted sums."""
    n = len(grid.values[1])
    found: list[list[Vertex | None]] = [[None] * n for _ in grid.values[0]]
    for point in points:
        if point.get("mean") is None:
            continue
        at = coefficients(with_values(grid.wish, point["values"]), scene.tensors, len(scene.names))
        if not at.exact:
            return []
        place = plane.place(at.rows[0] if len(at.rows) == 1 else at.spread(len(scene.tensors)))
        row, column = divmod(int(point["point"]), n)
        if row < len(found):
            found[row][column] = Vertex(place.x, place.y, float(point["mean"]))
    return found


def fits(grid: Grid, wish: Wish) -> bool:
    """Whether a grid is about the models at hand."""
    return (grid.wish.base, grid.wish.models) == (wish.base, wish.models)


def usual_axes(method: Method, axes: Sequence[Axis]) -> tuple[int, int]:
    """Two axes to begin with: the scale and a share where there are both, else the first two."""
    names = [axis.name for axis in axes]
    shares = [name for name in names if name in method.parameters and method.parameters[name].kind.is_share]
    if SCALE in names and shares:
        return names.index(SCALE), names.index(shares[0])
    return 0, min(1, len(axes) - 1)


def method_of(wish: Wish) -> Method:
    """The declared method of a wish."""
    return all_methods()[wish.method]
