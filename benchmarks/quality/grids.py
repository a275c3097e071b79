"""What is tried of every parameter, by its name, and the papers' own settings: read from grids.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import merging
from merging.methods.parameters import REQUIRED

# What is tried of a number that has no default and is in no grid.
FRACTIONS = (0.25, 0.5, 0.75)
TABLE = Path(__file__).parent / "grids.yaml"


@dataclass(frozen=True)
class Grid:
    """Values tried of a parameter. `further` ones are tried one by one, outwards, while the best is the outermost.

    `bounds` are those of the parameter itself.
    """

    start: tuple[Any, ...]
    further: tuple[float, ...] = ()
    bounds: tuple[float | None, float | None] = (None, None)

    def beyond(self, tried: Sequence[float], best: float) -> float | None:
        """The further value to try, or None where the best is not at an edge or the grid ends there."""
        if best == max(tried):
            return min((value for value in self.further if value > best), default=None)
        if best == min(tried):
            return max((value for value in self.further if value < best), default=None)
        return None

    def beside(self, value: Any) -> tuple[Any, ...]:
        """The next lower and the next higher value of the whole grid; all others where values have no order."""
        values = (*self.start, *self.further)
        if not all(map(is_number, (*values, value))):
            return tuple(each for each in values if each != value)
        lower, higher = (each for each in values if each < value), (each for each in values if each > value)
        return (*sorted(lower)[-1:], *sorted(higher)[:1])

    def ends_at(self, value: Any) -> bool:
        """Whether a value is the last of the whole grid although the parameter goes on."""
        values = [*self.start, *self.further]
        if len(values) < 3 or not all(map(is_number, [*values, value])) or value in self.bounds:
            return False
        return bool(value >= max(values) or value <= min(values))


@dataclass(frozen=True)
class Settings:
    """One method: its paper's settings where the declared defaults differ, and its grids, in the order of the search.

    `complete` is false where a parameter has no default and the table none either: then there is no default to report.
    `read_off` is the parameter, if there is one, that says which task's model is made of what was merged, from 1 on.
    `scale` is the one among the grids that wants another value beside another value of any other.
    """

    start: Mapping[str, Any] = field(default_factory=dict)
    grids: Mapping[str, Grid] = field(default_factory=dict)
    complete: bool = True
    read_off: str | None = None
    scale: str | None = None


def settings_of(method: Any, table: Mapping[str, Any]) -> Settings:
    """What the table says about a declared method; values that a parameter does not take are left out."""
    own = table["methods"].get(method.name) or {}
    told = {**table["grids"], **(own.get("grids") or {})}
    knobs = method.parameters
    grids = {name: _grid(grid, knobs[name]) for name, grid in told.items() if name in knobs and grid is not None}
    choices = {name: knob.kind.choices for name, knob in knobs.items() if knob.kind.type == "choice"}
    grids |= {name: Grid(each) for name, each in choices.items() if name not in told}
    start = dict(own.get("paper") or {})
    missing = [name for name, knob in knobs.items() if knob.default is REQUIRED and name not in start]
    grids |= {name: _fallback(knobs[name].kind) for name in missing if name not in grids}
    start |= {name: grids[name].start[0] for name in missing}
    scale = table.get("scale")
    return Settings(start, grids, not missing, own.get("read_off"), scale if scale in grids else None)


def _grid(told: Mapping[str, Any], knob: Any) -> Grid:
    start, further = (tuple(filter(knob_takes(knob), told.get(part, ()))) for part in ("start", "further"))
    return Grid(start, further, (knob.kind.minimum, knob.kind.maximum))


def knob_takes(knob: Any) -> Any:
    """Whether a value is one that a parameter takes, as a function of the value."""

    def takes(value: Any) -> bool:
        try:
            knob.check(value)
        except merging.MergingError:
            return False
        return True

    return takes


def _fallback(kind: Any) -> Grid:
    match kind.type:
        case "flag":
            return Grid((False, True))
        case "count":
            return Grid((1, 2, 4))
        case _:
            return Grid(FRACTIONS, bounds=(kind.minimum, kind.maximum))


def is_number(value: Any) -> bool:
    """Whether a value has a place on a scale."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_table(file: Path = TABLE) -> dict[str, Any]:
    """The table."""
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found


def unknown_entries(table: Mapping[str, Any]) -> list[str]:
    """Entries of the table about methods that are not declared, or parameters that they do not have."""
    methods = merging.all_methods()
    complaints = []
    for name, told in table["methods"].items():
        knobs = methods[name].parameters if name in methods else {}
        named = {*told.get("paper", ()), *told.get("grids", ())} | ({told["read_off"]} if "read_off" in told else set())
        complaints += [f"{name}.{key}" for key in sorted(named - set(knobs))] if name in methods else [name]
    return complaints
