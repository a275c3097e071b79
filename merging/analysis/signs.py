"""How often task vectors agree and disagree in sign, entry by entry, counted exactly.

The signs of a few models make one number in base three, and a table counts how often each number occurs: all that is
asked of the signs follows from the table, at the cost of one count per entry instead of one comparison per pair.
"""

from __future__ import annotations

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
    """Counts of one stretch of entries, block by block."""

    def take(self, model: int, sign: Float[Tensor, " n"]) -> None:
        """The signs of one model in the block at hand; models come in their order."""
        ...

    def close_block(self) -> None:
        """Count the block whose signs have been taken."""
        ...

    def sums(self) -> SignSums:
        """What all counted blocks add up to."""
        ...


def sign_counts(models: int, block: int) -> SignCounts:
    """Counts for so many models and blocks of at most so many entries."""
    return CodedSigns(models, block) if models <= MOST_CODED else ComparedSigns(models, block)


class CodedSigns:
    """A table of how often each combination of signs occurs."""

    def __init__(self, models: int, block: int):
        self._models = models
        self._code = torch.empty(block)
        self._index = torch.empty(block, dtype=torch.int8 if models <= MOST_IN_A_BYTE else torch.int64)
        self._table = torch.zeros(max(256, 3**models), dtype=torch.int64)
        self._entries = 0

    def take(self, model: int, sign: Float[Tensor, " n"]) -> None:
        """Its digit is 3^model."""
        self._entries = len(sign)
        code = self._code[: len(sign)]
        if model:
            code.add_(sign, alpha=3.0**model)
        else:
            code.copy_(sign)

    def close_block(self) -> None:
        """One more count for the combination at every entry."""
        code, index = self._code[: self._entries], self._index[: self._entries]
        if self._models <= MOST_IN_A_BYTE:
            # Negative numbers wrap to the upper half of a byte's table.
            counted = index.copy_(code).view(torch.uint8)
        else:
            counted = index.copy_(code.add_(3**self._models // 2))
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

    def __init__(self, models: int, block: int):
        self._held = torch.empty(models, block)
        self._entries = 0
        self._pairs = torch.zeros(2, models, models, dtype=torch.float64)
        self._disputed = torch.zeros(2, dtype=torch.float64)

    def take(self, model: int, sign: Float[Tensor, " n"]) -> None:
        """Kept until the block is complete."""
        self._entries = len(sign)
        self._held[model, : len(sign)] = sign

    def close_block(self) -> None:
        """Sums of fewer than 2^24 ones are exact in float32."""
        signs = self._held[:, : self._entries]
        present = signs.abs()
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
