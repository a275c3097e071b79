"""Measuring rounds that find magnitudes by their rank among all entries, in one reading and a sample."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any

from merging.algebra import windows
from merging.algebra.sparsify import coarse_magnitudes
from merging.lazy import Float, Int, Tensor, torch
from merging.methods.parameters import Measured
from merging.methods.rounds import Round, Rule


def as_they_are(x: Float[Tensor, "models n"]) -> Float[Tensor, "models n"]:
    """The operands' own entries, where it is these whose magnitudes are ranked."""
    return x


def rank_rounds(name: str, ranks: Rule, of: Rule = as_they_are, *, zeros: bool = False) -> tuple[Rule, ...]:
    """Rounds after which `measured[name]` holds the magnitudes at wanted ranks: 0 at rank 0, NaN beyond all entries.

    of(x, *, ...) makes rows (rows, n) of the operands. ranks(counts, *, ...) gives ascending ranks (rows, ranks) in
    rows of so many entries, (rows, 1); with `zeros` counts are (rows, 2) and tell how many of them are zero. It is
    asked twice, about what a sample stands for and about all entries.

    One reading lists the entries around the place where a sample has each rank. Where a magnitude turns out to lie
    elsewhere, two more readings count all entries, by their upper bits and then around these.
    """
    return _Ranking(name, ranks, of, zeros).rounds()


@dataclass(frozen=True)
class _Ranking:
    """The rounds. Their keywords beyond those named are handed through to `ranks` and `of`, whatever these take."""

    name: str
    ranks: Rule
    of: Rule
    zeros: bool

    def rounds(self) -> tuple[Rule, ...]:
        return (
            Round(self._step("sampled", self.sampled, self.of), sampled=True),
            self._step("windows", self.windows, self.ranks),
            Round(self._step("counted", self.counted, self.of), condense=windows.condense),
            self._step("ranks", self.exact_ranks, self.ranks),
            self._step("found", self.found),
            Round(self._step("coarse", self.coarse, self.of), when=self.is_missed),
            Round(self._step("bins", self.bins), when=self.is_missed),
            Round(self._step("fine", self.fine, self.of), condense=windows.condense, when=self.is_missed),
            self._step("", self.magnitudes),
        )

    def sampled(self, x: Tensor, *, stands_for: int, **known: Any) -> Int[Tensor, "rows counts"]:
        """Upper bits of a sample: coarse counts of what it stands for, and how many entries it holds."""
        coarse = coarse_magnitudes(_told(self.of, x, **known))
        return torch.cat([coarse * stands_for, coarse[:, -1:]], 1)

    def windows(self, *, measured: Measured, **known: Any) -> Int[Tensor, "rows slots bits"]:
        """Where the wanted magnitudes are expected; one more window that holds nothing, to count zeros."""
        sample = measured[f"{self.name}_sampled"]
        coarse = sample[:, :-1].contiguous()
        wanted = _told(self.ranks, coarse[:, [-1, 1]] if self.zeros else coarse[:, -1:], measured=measured, **known)
        expected = windows.windows(coarse, sample[:, -1], wanted)
        nothing = torch.full_like(expected[:, :1], windows.BEYOND)
        nothing[..., :2] = 1
        return torch.cat([expected, nothing], 1) if self.zeros else expected

    def counted(self, x: Tensor, *, measured: Measured, **known: Any) -> Int[Tensor, "two listed"]:
        """All entries: those inside of windows one by one, the rest by number."""
        rows = _told(self.of, x, measured=measured, **known)
        return windows.list_magnitudes(rows, measured[f"{self.name}_windows"])

    def exact_ranks(self, *, measured: Measured, **known: Any) -> Int[Tensor, "rows ranks"]:
        """The wanted ranks among all entries."""
        rows, slots, _ = measured[f"{self.name}_windows"].shape
        counts = windows.listed_counts(measured[f"{self.name}_counted"], rows * slots).view(rows, slots, 2)[:, -1]
        return _told(self.ranks, counts if self.zeros else counts[:, :1], measured=measured, **known)

    def found(self, *, measured: Measured) -> Float[Tensor, "rows ranks"]:
        """The wanted magnitudes, -1 where one lies outside of its window."""
        return windows.listed_statistics(*self._of(measured, "counted", "windows", "ranks"))

    def is_missed(self, measured: Measured) -> bool:
        """Whether a magnitude lies outside of its window."""
        return bool((self._of(measured, "found")[0] == -1).any())

    def coarse(self, x: Tensor, **known: Any) -> Int[Tensor, "rows uppers"]:
        """Upper bits of all entries."""
        return coarse_magnitudes(_told(self.of, x, **known))

    def bins(self, *, measured: Measured) -> Int[Tensor, "rows ranks bits"]:
        """The upper bits of the wanted magnitudes, as windows."""
        coarse, ranks = self._of(measured, "coarse", "ranks")
        return windows.windows(coarse, coarse[:, -1], ranks)

    def fine(self, x: Tensor, *, measured: Measured, **known: Any) -> Int[Tensor, "two listed"]:
        """All entries: those with such upper bits one by one, the rest by number."""
        return windows.list_magnitudes(_told(self.of, x, measured=measured, **known), *self._of(measured, "bins"))

    def magnitudes(self, *, measured: Measured) -> Float[Tensor, "rows ranks"]:
        """The wanted magnitudes."""
        if f"{self.name}_fine" in measured:
            return windows.listed_statistics(*self._of(measured, "fine", "bins", "ranks"))
        return measured[f"{self.name}_found"]

    def _of(self, measured: Measured, *suffixes: str) -> list[Tensor]:
        return [measured[f"{self.name}_{suffix}"] for suffix in suffixes]

    def _step(self, suffix: str, method: Rule, told: Rule | None = None) -> Rule:
        """A method as a round with a name of its own, and the keywords of what it hands through to in its signature."""

        def step(*tensors: Tensor, **known: Any) -> Tensor:
            return method(*tensors, **known)

        own = [each for each in inspect.signature(method).parameters.values() if each.kind is not each.VAR_KEYWORD]
        keywords = [each for each in _keywords(told).values() if each.name not in {mine.name for mine in own}]
        step.__name__ = "_".join(filter(None, (self.name, suffix)))
        step.__doc__ = method.__doc__
        # Where the annotations of its parameters are understood.
        step.__module__ = self.ranks.__module__
        step.__signature__ = inspect.Signature([*own, *keywords])  # type: ignore[attr-defined]
        return step


def _told(rule: Rule, *tensors: Tensor, **known: Any) -> Tensor:
    """A rule's result, told what it asks for of what is known."""
    return rule(*tensors, **{name: known[name] for name in _keywords(rule)})


@cache
def _keywords(rule: Rule | None) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(rule).parameters if rule else {}
    return {name: each for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY}
