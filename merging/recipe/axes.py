"""An axis of a grid as one types it: `lambda=0:1.5:7` for seven values from 0 to 1.5, `density=0.1,0.2` for these."""

from __future__ import annotations

from typing import NamedTuple

from merging.errors import RecipeError
from merging.recipe.recipe import Scalar


class Axis(NamedTuple):
    """A name and the values it takes; written as one types it."""

    name: str
    values: tuple[Scalar, ...]

    def __str__(self) -> str:
        return f"{self.name}={','.join(map(str, self.values))}"


def read_axis(text: str) -> Axis:
    """The axis that a text says. Raises RecipeError.

    >>> read_axis("lambda=0:1:3").values, read_axis("normalize=true,false").values
    ((0.0, 0.5, 1.0), (True, False))
    """
    name, equals, listed = text.rpartition("=")
    try:
        values = _line(listed) if listed.count(":") == 2 else tuple(map(_scalar, listed.split(",")))
    except ValueError:
        values = ()
    if not equals or not name or not values or "" in values:
        raise RecipeError(f"{text!r} is no axis", must_be="lambda=0:1.5:7 or density=0.1,0.2,0.5")
    return Axis(name, values)


def _line(text: str) -> tuple[Scalar, ...]:
    """Equal steps from the first number to the second, both among them."""
    first, last, count = text.split(":")
    a, b, n = float(first), float(last), int(count)
    if n < 1:
        raise ValueError(text)
    # Twelve digits: what a person would have typed, and not 0.30000000000000004.
    return tuple(float(f"{a + (b - a) * i / max(1, n - 1):.12g}") for i in range(n))


def _scalar(word: str) -> Scalar:
    word = word.strip()
    if word.casefold() in ("true", "false"):
        return word.casefold() == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
