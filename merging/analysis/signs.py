"""How often task vectors agree and disagree in sign, entry by entry, counted exactly.

The signs of a few models make one number in base three, and a table counts how often each number occurs: all that is
asked of the signs follows from the table, at the cost of one count per entry instead of one comparison per pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, Protocol

from merging.lazy import Float, Int, Tensor, torch

# Signs of so many models make a number that fits a byte; of so many, one whose table of counts fits the caches.
MOST_IN_A_BYTE, MOST_CODED = 5, 10


class SignSums(NamedTuple):
    """Sums over entries, in float64, which holds counts exactly.

    signs     sign(tau_i) sign(tau_j); on the diagonal the entries that changed
    shared    entries that both models changed
    disputed  entries that at least two models changed, and those of them that some raised and others lowered
    """

    signs: Float[Tensor, "models models"]
    shared: Float[Tensor, "models models"]
    disputed: Float[Tensor, " two"]


class SignCounts(Protocol):
    """Counts of one stretch of entries, block by block: each is taken, and then counted by being closed."""

    def take(self, signs: Sequence[Float[Tensor, " n"]]) -> None:
        """The signs of each model in the block at hand."""
        ...

    def close_block(self) -> None:
        """Count the block that has been taken."""
        ...

    def sums(self) -> SignSums:
        """What all counted blocks add up to."""
        ...


def sign_counts(models: int) -> SignCounts:
    """Counts for so many models."""
    return CodedSigns(models) if models <= MOST_CODED else ComparedSigns(models)


class CodedSigns:
    """A table of how often each combination of signs occurs."""

    def __init__(self, models: int):
        self._models = models
        self._code = torch.empty(0)
        self._index = torch.empty(0, dtype=torch.int8 if models <= MOST_IN_A_BYTE else torch.int64)
        self._table = torch.zeros(max(256, 3**models), dtype=torch.int64)

    def take(self, signs: Sequence[Float[Tensor, " n"]]) -> None:
        """The digit of a model is 3^model."""
        if len(signs[0]) != len(self._code):
            self._code = torch.empty(len(signs[0]))
            self._index = torch.empty(len(signs[0]), dtype=self._index.dtype)
        self._code.copy_(signs[0])
        for model, sign in enumerate(signs[1:], start=1):
            self._code.add_(sign, alpha=3.0**model)

    def close_block(self) -> None:
        """One more count for the combination at every entry."""
        if self._models <= MOST_IN_A_BYTE:
            # Negative numbers wrap to the upper half of a byte's table.
            counted = self._index.copy_(self._code).view(torch.uint8)
        else:
            counted = self._index.copy_(self._code.add_(3**self._models // 2))
        self._table += torch.bincount(counted, minlength=len(self._table))

    def sums(self) -> SignSums:
        """Every combination, as often as it occurred."""
        patterns, counts = _patterns(self._models), self._table.double()
        present = patterns.abs()
        several = present.sum(1) >= 2
        opposed = patterns.sum(1).abs() < present.sum(1)
        return SignSums(
            patterns.T @ (counts[:, None] * patterns),
            present.T @ (counts[:, None] * present),
            torch.stack([counts[several].sum(), counts[opposed].sum()]),
        )


class ComparedSigns:
    """Models compared two by two: for any number of them."""

    def __init__(self, models: int):
        self._held = torch.empty(models, 0)
        self._pairs = torch.zeros(2, models, models, dtype=torch.float64)
        self._disputed = torch.zeros(2, dtype=torch.float64)

    def take(self, signs: Sequence[Float[Tensor, " n"]]) -> None:
        """Kept until the block is closed."""
        self._held = torch.stack(tuple(signs))

    def close_block(self) -> None:
        """Sums of fewer than 2^24 ones are exact in float32."""
        signs, present = self._held, self._held.abs()
        self._pairs += torch.stack([signs @ signs.T, present @ present.T])
        counts = present.sum(0)
        self._disputed += torch.stack([(counts >= 2).sum(), (signs.sum(0).abs() < counts).sum()])

    def sums(self) -> SignSums:
        """As counted."""
        return SignSums(self._pairs[0].clone(), self._pairs[1].clone(), self._disputed.clone())


@cache
def _patterns(models: int) -> Float[Tensor, "places models"]:
    """The signs that each place of the table stands for; places of a byte's table that stand for none are zeros."""
    digits: Int[Tensor, " places"] = torch.arange(3**models)
    signs = torch.stack([digits.div(3**i, rounding_mode="floor").remainder(3) - 1 for i in range(models)], 1).double()
    if models > MOST_IN_A_BYTE:
        return signs
    table = torch.zeros(256, models, dtype=torch.float64)
    table[(digits - 3**models // 2).remainder(256)] = signs
    return table
