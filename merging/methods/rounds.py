"""Measuring rounds: which are taken, over which entries, and how their results add up.

A round is a rule; the wrappers here say what is special about one. A round without a tensor argument reads nothing: it
is worked out once from the sums before it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from merging.lazy import torch
from merging.methods.parameters import Measured

if TYPE_CHECKING:
    from merging.lazy import Tensor

Rule: TypeAlias = Callable[..., "Tensor"]
# Numbers that lists of a sum may hold before what is equal in them is brought together.
LISTED = 1 << 21


@dataclass(frozen=True)
class only_if:
    """A measuring round that is taken only where a parameter has an effect: a flag is true, a share is below 1.

    `when` says what calls for the round where that is something else. Conditions nest.
    """

    parameter: str
    round: Rule | only_if
    when: Callable[[Any], bool] | None = None

    def is_taken(self, values: Mapping[str, Any]) -> bool:
        """Whether these values, each of all models or of one after the other, call for the round."""
        value = values[self.parameter]
        several = value if isinstance(value, tuple | list) else (value,)
        called = any(map(self.when or _has_effect, several))
        return called and (not isinstance(self.round, only_if) or self.round.is_taken(values))

    @property
    def rule(self) -> Rule:
        """The round itself."""
        return self.round.rule if isinstance(self.round, only_if) else self.round

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that decide."""
        return (self.parameter, *(self.round.parameters if isinstance(self.round, only_if) else ()))


def _has_effect(value: Any) -> bool:
    return bool(value if isinstance(value, bool) else value < 1)


@dataclass(frozen=True)
class Round:
    """A rule as a measuring round with something special about it.

    sampled    it is given a sample of the entries, whatever the reach: chunks from all over a tensor, each entry of
               which stands for as many as its keyword `stands_for` says; of a small tensor all
    condense   what it returns are lists of columns, and a union's list is that of the parts side by side; once it is
               long, this brings together what is equal
    when       it is taken only where the sums before it call for it; planning counts it as not taken
    """

    rule: Rule
    sampled: bool = False
    condense: Callable[[Tensor], Tensor] | None = None
    when: Callable[[Measured], bool] | None = None

    @property
    def __name__(self) -> str:
        return self.rule.__name__

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.rule)

    def __call__(self, *tensors: Tensor, **known: Any) -> Tensor:
        """The rule's result."""
        return self.rule(*tensors, **known)


@cache
def reads(step: Rule) -> bool:
    """Whether a measuring round sees the operands."""
    return any(each.kind is not inspect.Parameter.KEYWORD_ONLY for each in inspect.signature(step).parameters.values())


def plain(step: Rule | only_if) -> Rule:
    """The function of a measuring round, without what is said around it."""
    rule = step.rule if isinstance(step, only_if) else step
    return rule.rule if isinstance(rule, Round) else rule


def is_sampled(step: Rule) -> bool:
    """Whether a measuring round is content with a sample of the entries."""
    return isinstance(step, Round) and step.sampled


def is_planned(step: Rule) -> bool:
    """Whether a measuring round is taken whatever the rounds before it find."""
    return not (isinstance(step, Round) and step.when)


def is_needed(step: Rule, measured: Measured) -> bool:
    """Whether a measuring round is taken after rounds with these sums."""
    when = step.when if isinstance(step, Round) else None
    return when is None or when(measured)


class Sum:
    """The sum of a round's results, in the order in which they are added."""

    def __init__(self, step: Rule):
        self._condense = step.condense if isinstance(step, Round) else None
        self._parts: list[Tensor] = []
        self._condensed = self._listed = 0

    def add(self, part: Tensor) -> None:
        """Add what the round made of one more part."""
        if self._condense is None:
            if self._parts:
                self._parts[0].add_(part)
            else:
                self._parts.append(part.clone())
            return
        self._parts.append(part)
        self._listed += part.numel()
        if self._listed > max(LISTED, 2 * self._condensed):
            self._parts = [self._condense(self.total())]
            self._condensed = self._listed = self._parts[0].numel()

    def total(self) -> Tensor:
        """The sum; something must have been added."""
        return self._parts[0] if len(self._parts) == 1 else torch.cat(self._parts, -1)

    def settled(self) -> Tensor:
        """The sum in the one form that equal sums have."""
        return self._condense(self.total()) if self._condense else self.total()
