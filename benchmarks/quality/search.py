"""The best setting of a method by the validation splits: one parameter after the other, the scale beside each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from benchmarks.quality.grids import Grid, Settings, is_number

Values: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """A merge at some settings: its mean over the validation splits, what equal weights share, seconds of merging."""

    mean: float
    digest: str
    seconds: float


# None where the merge is refused at these settings.
Try: TypeAlias = Callable[[Values], Trial | None]


@dataclass
class Search:
    """A search under way; `best` leaves out parameters that stand at their declared defaults from the beginning."""

    attempt: Try
    settings: Settings
    defaults: Values
    budget_seconds: float = float("inf")
    rounds: int = 2

    def __post_init__(self) -> None:
        self.best: Values = self.settings.start
        self.found: Trial | None = None
        self.seen: dict[tuple[tuple[str, Any], ...], Trial | None] = {}

    def run(self) -> Values | None:
        """The best settings, the ones begun with where no others are better; None if all are refused.

        The first round goes over whole grids, the others only beside the best settings so far: does an earlier choice
        hold beside the later ones?
        """
        self._improve(self.best)
        for name, grid in self.settings.grids.items():
            self._along(name, grid)
        for _ in range(1, self.rounds):
            before = self.best
            for name, grid in self.settings.grids.items():
                self._climb(name, grid)
            if self.best == before:
                break
        return None if self.found is None else self.best

    @property
    def is_spent(self) -> bool:
        """Whether merging has taken all the time it was given."""
        return sum(trial.seconds for trial in self.seen.values() if trial) > self.budget_seconds

    def at_edge(self) -> list[str]:
        """Parameters whose best value is the last of its whole grid, beyond which nobody looked."""
        return [name for name, grid in self.settings.grids.items() if grid.ends_at(self._value(name))]

    def _along(self, name: str, grid: Grid) -> None:
        """Vary one parameter about the best settings; outwards as long as the best is the outermost."""
        tried = [self._value(name)]
        for value in grid.start:
            if value in tried:
                continue
            before, trial = self.found, self._improve({**self.best, name: value})
            tried.append(value)
            if len(tried) == 2 and before and trial and trial.digest == before.digest:
                # Another value made the same weights: the parameter has no effect here.
                return
            self._rescale(name, value, trial)
        while all(map(is_number, tried)):
            value = grid.beyond(tried, self._value(name))
            if value is None or self.is_spent:
                return
            tried.append(value)
            self._rescale(name, value, self._improve({**self.best, name: value}))

    def _rescale(self, name: str, value: Any, trial: Trial | None) -> None:
        """Move the scale beside a new value of another parameter, downwards or else upwards, while that is better."""
        scale = self.settings.scale
        if scale is None or scale == name or trial is None:
            return
        for is_onward in (float.__lt__, float.__gt__):
            at, found, moved = float(self._value(scale)), trial, False
            while beside := [each for each in self.settings.grids[scale].beside(at) if is_onward(float(each), at)]:
                further = self._improve({**self.best, name: value, scale: beside[0]})
                if further is None or further.mean <= found.mean:
                    break
                at, found, moved = float(beside[0]), further, True
            if moved:
                return

    def _climb(self, name: str, grid: Grid) -> None:
        """Move one parameter to a value beside it, as long as that is better."""
        before = None
        while self.best != before:
            before = self.best
            for value in grid.beside(self._value(name)):
                self._improve({**before, name: value})

    def _improve(self, values: Values) -> Trial | None:
        """Merge at these settings, unless the time is spent; they are the best from now on if they do better."""
        key = tuple(sorted({**self.defaults, **values}.items()))
        if key not in self.seen:
            if self.is_spent:
                return None
            self.seen[key] = self.attempt(values)
        trial = self.seen[key]
        if trial is not None and (self.found is None or trial.mean > self.found.mean):
            self.best, self.found = values, trial
        return trial

    def _value(self, name: str) -> Any:
        return self.best.get(name, self.defaults.get(name))
