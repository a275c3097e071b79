"""Where merges stand, as rows for charts: a plane, curves over the layers, angles between task vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from typing import Any, NamedTuple

from ui import charts
from ui.explore.scene import Scene
from ui.explore.standing import Standing

Row = dict[str, Any]
MERGE, BASE = "merge", "base"
# Of a direction's length: below, two task vectors are one direction and span no plane.
PARALLEL = 1e-6
ROOM = 0.12


class Place(NamedTuple):
    """A point of the plane, and how far from the plane what it stands for is."""

    x: float
    y: float
    off: float


class Plane:
    """A plane on which merges are drawn: through the base and two models, or the principal one of all of them.

    `shown` is the share of the models' variance that it keeps; None for a plane through two models.
    """

    def __init__(self, scene: Scene, pair: tuple[int, int] | None = None):
        self._scene = scene
        self._pair = pair if pair and pair[0] != pair[1] else None
        self.shown = None if self._pair else scene.map.shown
        gram = scene.positions.tasks.sum(0).tolist()
        if self._pair:
            a, b = self._pair
            self._first = sqrt(max(gram[a][a], 0.0)) or 1.0
            self._slope = gram[a][b] / (gram[a][a] or 1.0)
            rest = gram[b][b] - self._slope * gram[a][b]
            self._second = sqrt(max(rest, 0.0))
            if self._second <= PARALLEL * self._first:
                self._second = 0.0

    def place(self, rows: Sequence[Any]) -> Place:
        """Where the merge of these coefficients stands: one for each model, or a row of them for each tensor."""
        if self._pair is None:
            found = self._scene.map.project(rows)
            return Place(found.x, found.y, found.out_of_plane)
        c = self._scene.positions.spread(rows)
        dots = (self._scene.positions.tasks * c[:, None, :]).sum(2)
        squared = float((dots * c).sum())
        along = dots.sum(0).tolist()
        a, b = self._pair
        x = along[a] / self._first
        y = (along[b] - self._slope * along[a]) / self._second if self._second else 0.0
        return Place(x, y, sqrt(max(0.0, squared - x * x - y * y)))


def unit(i: int, n: int) -> list[float]:
    """The coefficients of one model."""
    return [float(i == k) for k in range(n)]


def model_points(scene: Scene, plane: Plane, merge: Standing | None) -> list[Row]:
    """Base, models and the merge in the plane."""
    n = len(scene.names)
    colours = charts.colours(scene.names).to_dict()["range"]
    rows = [_point(BASE, plane.place([0.0] * n), charts.BASE, "square")]
    rows += [
        _point(name, plane.place(unit(i, n)), colour, "circle")
        for i, (name, colour) in enumerate(zip(scene.names, colours, strict=True))
    ]
    if merge is not None:
        place = plane.place(merge.nearest)
        rows.append(_point(MERGE, place._replace(off=merge.off(place.off)), charts.MERGE, "diamond"))
    return rows


def _point(name: str, place: Place, colour: str, shape: str) -> Row:
    drawn = {"colour": colour, "shape": shape, "below": name == BASE}
    return {"name": name, "x": place.x, "y": place.y, "off": place.off, **drawn}


class Frame(NamedTuple):
    """The part of a plane that a picture shows: its middle, and the least that it shows of both directions."""

    x: float
    y: float
    width: float
    height: float


def frame(rows: Iterable[Mapping[str, float]]) -> Frame:
    """The frame around all points, with some room."""
    points = list(rows)
    found = []
    for axis in "xy":
        values = [row[axis] for row in points]
        found.append(((min(values) + max(values)) / 2, max(values) - min(values)))
    (x, width), (y, height) = found
    room = (1 + 2 * ROOM) * (max(width, height) or 1.0) - max(width, height)
    return Frame(x, y, width + room, height + room)


def layer_rows(scene: Scene, merge: Standing) -> tuple[list[Row], list[Row], list[str]]:
    """Norm of the merge and its cosines to the models over the layers, and the layers in order."""
    layers = merge.layers(scene)
    norms = [{"place": each.place, "name": MERGE, "value": each.norm} for each in layers]
    cosines = [
        {"place": each.place, "name": name, "value": value}
        for each in layers
        for name, value in zip(scene.names, each.cosines, strict=True)
    ]
    return norms, cosines, [each.place for each in layers]


def chosen_tensors(scene: Scene, layer: str, role: str) -> list[int]:
    """Positions of the tensors of a layer and a role; "" for all of them."""
    return [
        i
        for i, (each, place) in enumerate(zip(scene.tensors, scene.places, strict=True))
        if layer in ("", place) and role in ("", each.role.split(".")[0] or "other")
    ]


def layers_of(scene: Scene) -> list[str]:
    """The layers, as `chosen_tensors` names them."""
    return list(dict.fromkeys(scene.places))


def roles_of(scene: Scene) -> list[str]:
    """The first words of the tensors' roles."""
    return list(dict.fromkeys(each.role.split(".")[0] or "other" for each in scene.tensors))


def agreement(scene: Scene, merge: Standing | None, tensors: Sequence[int]) -> list[Row]:
    """Cosines of all task vectors and of the merge over some tensors; None to what has not changed there."""
    gram = scene.positions.tasks[list(tensors)].sum(0).tolist()
    names = list(scene.names)
    if merge is not None:
        along = [sum(column) for column in zip(*(merge.dots[i] for i in tensors), strict=True)]
        gram = [[*row, along[i]] for i, row in enumerate(gram)]
        gram.append([*along, sum(merge.squares[i] for i in tensors)])
        names.append(MERGE)
    lengths = [sqrt(max(gram[i][i], 0.0)) for i in range(len(gram))]
    rows = []
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            product = lengths[i] * lengths[j]
            value = max(-1.0, min(1.0, gram[i][j] / product)) if product else None
            rows.append({"a": a, "b": b, "value": value})
    return rows
