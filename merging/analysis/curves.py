"""Values over the depth of a model: named curves, typed lists, and the shortest list that gives the values at hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import cos, exp, isfinite, pi, ulp

from merging.errors import MergingError, nearest
from merging.lazy import torch
from merging.recipe.settings import interpolate

# Digits after the point: of a named curve's values, of its numbers where it is recognised, of a list's that are solved
# for.
DIGITS = 6
SHORT_DIGITS = 4
SOLVED_DIGITS = 12
# Lists whose points fall between layers are looked for up to this many points; nobody types longer ones.
MOST_BETWEEN = 6
# Of the steepest: slopes that differ by less are one line, rounded.
SAME_SLOPE = 1e-9
# What is added to a point in its last binary digit, until it is met.
LAST_DIGITS = (0, 1, -1, 2, -2, 3, -3)


def _bell(x: float, edge: float, peak: float, centre: float = 0.5, width: float = 0.2) -> float:
    return edge + (peak - edge) * exp(-(((x - centre) / width) ** 2) / 2)


# A curve's numbers in order, those with a default may be left out; x is 0 at the first layer and 1 at the last.
SHAPES: Mapping[str, tuple[tuple[int, int], Callable[..., float]]] = {
    "linear": ((2, 2), lambda x, first, last: first + (last - first) * x),
    "cosine": ((2, 2), lambda x, first, last: first + (last - first) * (1 - cos(pi * x)) / 2),
    "bell": ((2, 4), _bell),
    "step": ((2, 3), lambda x, first, last, at=0.5: first if x < at else last),
}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_CALL = re.compile(r"([a-z]+)\s*\(([^()]*)\)")


@dataclass(frozen=True)
class Curve:
    """A value for every depth from 0, the first layer, to 1, the last.

    A list of numbers (`shape` "") is a constant or a gradient as recipes know it: points at equal distances with
    straight lines between. The other shapes are `linear(first, last)`, `cosine(first, last)`, which is flat at both
    ends, `bell(edge, peak, centre 0.5, width 0.2)`, a Gaussian hump or trough, and `step(first, last, at 0.5)`.
    """

    numbers: tuple[float, ...]
    shape: str = ""

    def at(self, fraction: float) -> float:
        """The value at a depth.

        >>> Curve((0.0, 1.0), "cosine").at(0.25), Curve((0.0, 1.0, 0.5)).at(0.75)
        (0.146447, 0.75)
        """
        if not self.shape:
            return interpolate(self.numbers, fraction)
        return round(SHAPES[self.shape][1](fraction, *self.numbers), DIGITS)

    def over(self, layers: int) -> Curve:
        """The same values in so many layers as a list, which a recipe can hold."""
        if not self.shape:
            return self
        last = max(1, layers - 1)
        return Curve(tuple(self.at(layer / last if layers > 1 else 1.0) for layer in range(layers)))

    def __str__(self) -> str:
        listed = ",".join(f"{number!r}".removesuffix(".0") for number in self.numbers)
        return f"{self.shape}({listed})" if self.shape else listed


def read_curve(text: str) -> Curve:
    """A curve as text: "0.5", "0,0.2,1", "cosine(0,1)".

    >>> read_curve("bell(0, 1)").at(0.5)
    1.0

    Raises MergingError.
    """
    call = _CALL.fullmatch(text.strip())
    shape, listed = call.groups() if call else ("", text)
    if shape and shape not in SHAPES:
        close = nearest(shape, SHAPES, count=1)
        raise MergingError(
            f"no curve is called {shape!r}",
            must_be="one of " + ", ".join(SHAPES),
            fix=f"did you mean {close[0]!r}?" if close else None,
        )
    words = [word.strip() for word in listed.split(",")]
    least, most = SHAPES[shape][0] if shape else (1, len(words))
    good = [word for word in words if _NUMBER.fullmatch(word) and isfinite(float(word))]
    if len(good) < len(words) or not least <= len(words) <= most:
        count = "one or more numbers" if not shape else f"{least} numbers" if least == most else f"{least} to {most}"
        raise MergingError(
            f"{text.strip()!r} is no curve",
            must_be=f"{count} with commas between, or " + ", ".join(f"{name}(…)" for name in SHAPES),
        )
    curve = Curve(tuple(float(word) for word in words), shape)
    if shape == "bell" and len(words) == 4 and not curve.numbers[3] > 0:
        raise MergingError(f"the bell {text.strip()!r} has no width", must_be="a width above 0")
    return curve


def shortest_list(points: Iterable[tuple[float, float]], counts: Collection[int]) -> tuple[float, ...] | None:
    """The shortest gradient through all (depth, value), exactly as recipes interpolate it; None where there is none.

    `counts` are the numbers of layers of the stacks the depths come from: points that stand on layers are looked for up
    to that many, others up to six.

    >>> shortest_list([(0.0, 0.0), (1 / 3, 0.5), (2 / 3, 1.0), (1.0, 0.5)], [4])
    (0.0, 0.5, 1.0, 0.5)
    """
    known: dict[float, float] = {}
    for fraction, value in points:
        if known.setdefault(fraction, value) != value:
            return None
    if len(set(known.values())) < 2:
        return tuple(known.values())[:1] or None
    for n in _lengths(known, counts):
        found = _on_layers(known, n, whole=n in counts) or (_between_layers(known, n) if n <= MOST_BETWEEN else None)
        if found:
            return found
    return None


def named_curve(points: Collection[tuple[float, float]], layers: int) -> Curve | None:
    """The named curve whose values in so many layers these are, if one is: a cosine, a bell, a step.

    >>> named_curve([(i / 7, Curve((0.0, 0.8), "cosine").at(i / 7)) for i in range(8)], 8)
    Curve(numbers=(0.0, 0.8), shape='cosine')
    """
    known = dict(sorted(points))
    first, last = next(iter(known.values())), next(reversed(known.values()))
    candidates = [Curve((first, last), "cosine"), Curve((first, last), "step")]
    inner = min(known, key=lambda fraction: abs(fraction - 0.5))
    low, high = (_bell(fraction, 0.0, 1.0) for fraction in (next(iter(known)), inner))
    if high > low:
        height = (known[inner] - first) / (high - low)
        edge = round(first - height * low, SHORT_DIGITS)
        candidates.append(Curve((edge, round(edge + height, SHORT_DIGITS)), "bell"))
    for candidate in candidates:
        drawn = candidate.over(layers)
        if all(drawn.at(fraction) == value for fraction, value in known.items()):
            return candidate
    return None


def _lengths(known: Mapping[float, float], counts: Collection[int]) -> list[int]:
    """How many points a list may have, ascending: none with fewer bends than the values show, or that no layer meets.

    A bend between two layers shows in the slopes on both sides of them, and so is seen twice.
    """
    points = sorted(known.items())
    slopes = [(v - u) / (y - x) for (x, u), (y, v) in pairwise(points)]
    steepest = max(map(abs, slopes))
    bends = sum(abs(after - before) > SAME_SLOPE * steepest for before, after in pairwise(slopes))
    fewest = 2 + -(-bends // 2)
    on_layers = {n for count in counts for n in range(fewest, count + 1) if (count - 1) % (n - 1) == 0}
    between = range(fewest, min(MOST_BETWEEN, max(counts, default=1)) + 1)
    return sorted({*on_layers, *between})


def _on_layers(known: Mapping[float, float], n: int, whole: bool) -> tuple[float, ...] | None:
    """The values of the layers where the points stand; where `whole` allows, what no layer decides is filled in."""
    found = [known.get(i / (n - 1)) for i in range(n)]
    if not whole and None in found:
        return None
    return _exact(known, _filled(found))


def _filled(values: list[float | None]) -> tuple[float, ...]:
    """What is missing takes the value before it, at the beginning the first there is."""
    last = next((value for value in values if value is not None), 0.0)
    filled = []
    for value in values:
        last = last if value is None else value
        filled.append(last)
    return tuple(filled)


def _between_layers(known: Mapping[float, float], n: int) -> tuple[float, ...] | None:
    """Points solved for from the layers around them; what was typed with few digits is found as it was typed."""
    if len(known) < n:
        return None
    rows = []
    for fraction in known:
        position = fraction * (n - 1)
        i = min(int(position), n - 2)
        rows.append([i + 1 - position if k == i else position - i if k == i + 1 else 0.0 for k in range(n)])
    shares = torch.tensor(rows, dtype=torch.float64)
    values = torch.tensor(list(known.values()), dtype=torch.float64)
    squares = shares.T @ shares
    if float(torch.linalg.det(squares)) < 1e-12:
        return None
    solved = torch.linalg.solve(squares, shares.T @ values).tolist()
    return _exact(known, tuple(round(value, SOLVED_DIGITS) for value in solved))


def nearest_list(points: Iterable[tuple[float, float]], layers: int) -> tuple[float, ...]:
    """One point for each layer; by rounding alone a few layers may miss their value in its last digits."""
    known = dict(points)
    last = max(1, layers - 1)
    return _nudged(known, _filled([known.get(layer / last) for layer in range(layers)]))


def _exact(known: Mapping[float, float], values: tuple[float, ...]) -> tuple[float, ...] | None:
    # The second rounding is for values that came out of an interpolation between short numbers.
    for candidate in (values, tuple(round(value, SOLVED_DIGITS) for value in values), _nudged(known, values)):
        if all(interpolate(candidate, fraction) == value for fraction, value in known.items()):
            return candidate
    return None


def _nudged(known: Mapping[float, float], values: tuple[float, ...]) -> tuple[float, ...]:
    """Where layers miss their points by rounding, as with 50 of them, the points moved by as little against it."""
    moved = list(values)
    for fraction, value in known.items():
        i = round(fraction * (len(values) - 1))
        for _ in range(2):
            moved[i] += value - interpolate(moved, fraction)
        near = moved[i]
        for digits in LAST_DIGITS:
            moved[i] = near + digits * ulp(near)
            if interpolate(moved, fraction) == value:
                break
    return tuple(moved)
