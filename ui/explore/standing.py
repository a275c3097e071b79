"""Where a merge stands among its models: by formula for weighted sums, measured on the merge itself for all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from typing import Any, Literal, NamedTuple

from ui.explore.scene import Scene
from ui.explore.wish import Coefficients

Kind = Literal["sum", "measured", "stand-in"]


class Stretch(NamedTuple):
    """The merge within one layer: its norm, and its cosine to every model's task vector there."""

    place: str
    norm: float
    cosines: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Standing:
    """A merge by its inner products.

    kind           "sum" is a weighted sum, exactly; "measured" any merge, from its entries; "stand-in" the weighted
                   sum in place of a merge that is none and cannot be measured here
    nearest        the nearest sum with one weight for each model, itself where it is such a sum
    beyond         distance of the merge from that sum
    dots, squares  of each tensor <merged, tau_i> and |merged|^2
    interference   None where there is no sum to compare with
    """

    kind: Kind
    nearest: tuple[float, ...]
    beyond: float
    dots: list[list[float]]
    squares: list[float]
    norm: float
    relative_norm: float
    interference: float | None

    def off(self, in_plane: float) -> float:
        """Distance from a plane, from that of the nearest weighted sum."""
        return hypot(in_plane, self.beyond)

    def layers(self, scene: Scene) -> list[Stretch]:
        """Layer by layer in order; what stands outside only where the merge changes anything there."""
        found: dict[str, list[float]] = {}
        n = len(scene.names)
        for i, place in enumerate(scene.places):
            held = found.setdefault(place, [0.0] * (2 * n + 1))
            lengths = scene.lengths[i]
            for k in range(n):
                held[k] += self.dots[i][k]
                held[n + k] += lengths[k]
            held[-1] += self.squares[i]
        rows = []
        for place, held in found.items():
            norm = sqrt(max(0.0, held[-1]))
            if norm or place != scene.outside:
                cosines = tuple(_cosine(held[k], norm, held[n + k]) for k in range(n))
                rows.append(Stretch(place, norm, cosines))
        return sorted(rows, key=lambda row: row.place != scene.outside)


def _cosine(dot: float, norm: float, squared: float) -> float:
    length = norm * sqrt(max(0.0, squared))
    return max(-1.0, min(1.0, dot / length)) if length else 0.0


def of_sum(scene: Scene, at: Coefficients) -> Standing:
    """A weighted sum, or what stands in for a merge that is none."""
    spread = at.spread(len(scene.tensors))
    position = scene.positions.at(spread)
    c = scene.positions.spread(spread)
    dots = (scene.positions.tasks * c[:, None, :]).sum(2)
    squares = (dots * c).sum(1)
    nearest, beyond = (at.rows[0], 0.0) if len(at.rows) == 1 else _nearest(scene, dots, float(squares.sum()))
    return Standing(
        "sum" if at.exact else "stand-in",
        nearest,
        beyond,
        dots.tolist(),
        squares.tolist(),
        position.norm,
        position.relative_norm,
        position.interference,
    )


def measured(scene: Scene, products: Sequence[Sequence[float]]) -> Standing:
    """Any merge, from the inner products that `LiveScorer.products` takes."""
    dots = [list(row[:-1]) for row in products]
    squares = [row[-1] for row in products]
    nearest, beyond = _nearest(scene, scene.positions.tasks.new_tensor(dots), sum(squares))
    norm = sqrt(max(0.0, sum(squares)))
    return Standing("measured", nearest, beyond, dots, squares, norm, norm / scene.base_norm, None)


def _nearest(scene: Scene, dots: Any, squared: float) -> tuple[tuple[float, ...], float]:
    """The weighted sum with these inner products, and how far it is from what has them and this squared norm."""
    along = dots.sum(0)
    found = scene.positions.tasks.sum(0).pinverse(rcond=1e-9) @ along
    return tuple(found.tolist()), sqrt(max(0.0, squared - float(found @ along)))
