"""A plane that shows a base model, its fine-tunes and their merges as points, from inner products alone.

The plane is the one that leaves least of the models' spread out of sight: principal axes about the centroid of base and
fine-tunes (classical scaling of their distances). About the base model instead, nearly orthogonal task vectors of equal
length, the common case, would have a plane through two of them that puts all others on top of the base.

Coordinates are true distances. The base model's foot is the origin, the first model lies on the positive x axis and
the next one that is off the axis above it, so that the picture does not turn when a model is added or measured again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from typing import Any, NamedTuple

from merging.analysis.positions import Positions
from merging.lazy import Float, Tensor, torch

# Of the largest eigenvalue, and of the widest distance in the plane: below, a diagnosis' sums hold rounding alone.
NO_SPREAD = 1e-7
NO_LENGTH = 1e-3


class Point(NamedTuple):
    """A model in the plane, and how far it is from it."""

    x: float
    y: float
    out_of_plane: float


@dataclass(frozen=True, eq=False)
class Grid:
    """Points of the plane, `y` by `x`, and the coefficients of the merge at each."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    coefficients: Float[Tensor, "rows columns models"]


class Map:
    """Base model and fine-tunes in their plane; `project` puts merges there, `coefficients` finds the merge of a point.

    `shown` is the share of the models' variance that the plane keeps: 1 for up to two fine-tunes.
    """

    def __init__(self, positions: Positions):
        self.models = positions.models
        self._positions = positions
        self._gram = positions.tasks.sum(0)
        n = len(self.models)
        self._centre = torch.full((n,), 1 / (n + 1), dtype=torch.float64)
        axes, self.shown = _principal_axes(self._gram, self._centre)
        self._axes = self._turned(axes)
        self._origin = self._raw(torch.zeros(n, dtype=torch.float64))
        self.base = self.project([0.0] * n)
        self.parents = tuple(self.project(row) for row in torch.eye(n, dtype=torch.float64))

    def project(self, coefficients: Tensor | Sequence[Any]) -> Point:
        """Where the merge of these coefficients stands; as `Positions.at` takes them.

        Raises MergingError for coefficients of another shape.
        """
        c = self._positions.spread(coefficients)
        dots = torch.einsum("tij,tj->i", self._positions.tasks, c - self._centre)
        raw = self._axes.T @ dots
        rest = c - self._centre - self._axes @ raw
        apart = float(torch.einsum("ti,tij,tj->", rest, self._positions.tasks, rest))
        x, y = (raw - self._origin).tolist()
        return Point(x, y, sqrt(max(0.0, apart)))

    def coefficients(self, x: float, y: float) -> tuple[float, ...]:
        """The merge that stands in the plane at (x, y), one coefficient for each model.

        Its distance from the plane is 0, so a model that stands off the plane is not found at its own foot: there is
        the merge that is nearest to it within the plane. Where models coincide they share the coefficient equally, and
        what the models do not span, such as y of a single one, has no effect.
        """
        point = torch.tensor([x, y], dtype=torch.float64)
        return tuple(self._inverse(point).tolist())

    def grid(self, columns: int = 33, rows: int = 33, margin: float = 0.25) -> Grid:
        """Evenly spread points over all models and `margin` of their extent around, for scores to be drawn over."""
        points = (self.base, *self.parents)
        ranges = []
        for values, count in (([p.x for p in points], columns), ([p.y for p in points], rows)):
            room = margin * max(max(p.x for p in points) - min(p.x for p in points), max(values) - min(values))
            ranges.append(torch.linspace(min(values) - room, max(values) + room, count, dtype=torch.float64))
        x, y = ranges
        mesh = torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)], -1)
        return Grid(tuple(x.tolist()), tuple(y.tolist()), self._inverse(mesh))

    def _inverse(self, points: Float[Tensor, "*any two"]) -> Float[Tensor, "*any models"]:
        return self._centre + (points + self._origin) @ self._axes.T

    def _raw(self, c: Float[Tensor, " models"]) -> Float[Tensor, " two"]:
        return self._axes.T @ (self._gram @ (c - self._centre))

    def _turned(self, axes: Float[Tensor, "models two"]) -> Float[Tensor, "models two"]:
        """The same plane with the first model that is not at the base on the x axis, the next one off it above."""
        places = self._gram @ axes
        widest = NO_LENGTH * float(places.norm(dim=1).amax())
        first = next((row for row in places.tolist() if hypot(*row) > widest), None)
        if first is None:
            return axes
        cosine, sine = (value / hypot(*first) for value in first)
        turned = axes @ torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64)
        heights = (self._gram @ turned)[:, 1].tolist()
        above = next((height for height in heights if abs(height) > widest), 1.0)
        return turned * torch.tensor([1.0, 1.0 if above > 0 else -1.0], dtype=torch.float64)


def _principal_axes(
    gram: Float[Tensor, "models models"], centre: Float[Tensor, " models"]
) -> tuple[Float[Tensor, "models two"], float]:
    """Two orthonormal axes as coefficients of the task vectors (zero where there is no spread), and their share."""
    n = len(gram)
    points = torch.cat([torch.zeros(1, n, dtype=torch.float64), torch.eye(n, dtype=torch.float64)]) - centre
    values, vectors = torch.linalg.eigh(points @ gram @ points.T)
    axes = torch.zeros(n, 2, dtype=torch.float64)
    largest = float(values[-1])
    for k in range(2):
        value = float(values[-1 - k])
        if value > NO_SPREAD * largest:
            axes[:, k] = points.T @ vectors[:, -1 - k] / sqrt(value)
    total = float(values.clamp(min=0).sum())
    return axes, float(values[-2:].clamp(min=0).sum()) / total if total else 1.0
