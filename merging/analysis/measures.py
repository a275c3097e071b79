"""What a base model and its task vectors add to a diagnosis, block by block: sums and counts, one look at each entry.

A block is `(1 + models, entries)`: minus the base model in row 0, then the task vectors, all times SCALE. Scaling by a
power of two rounds nothing; with the base model negated, one operation scales a model and subtracts the base from it.
Sums over a block are in its precision, float32 but where that overflows, and over blocks in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from merging.analysis.magnitudes import CODES, REST_BITS, SCALE
from merging.analysis.signs import sign_counts
from merging.lazy import Float, Int, Tensor, torch


@dataclass(frozen=True)
class Sums:
    """Additive statistics of some entries, in the models' own units; any axes may stand before those named here.

    gram       inner products; index 0 is the base model, then the task vectors
    signs      sum of sign(tau_i) sign(tau_j); on the diagonal the entries that changed
    shared     entries that both models changed
    disputed   entries that at least two models changed, and those of them that some raised and others lowered
    mass       sum of |tau_i| over entries and models, and of |sum_i tau_i| over entries
    magnitudes counts of |tau| in the bins of `merging.analysis.magnitudes`
    largest    the largest |tau|; the one that does not add up
    fourth     sum of tau^4
    non_finite entries that are no finite float32: of the base model, then of the models. Task vectors are zero there
    """

    gram: Float[Tensor, "*groups inputs inputs"]
    signs: Float[Tensor, "*groups models models"]
    shared: Float[Tensor, "*groups models models"]
    disputed: Float[Tensor, "*groups two"]
    mass: Float[Tensor, "*groups two"]
    magnitudes: Int[Tensor, "*groups models bins"]
    largest: Float[Tensor, "*groups models"]
    fourth: Float[Tensor, "*groups models"]
    non_finite: Int[Tensor, "*groups inputs"]

    def __add__(self, other: Sums) -> Sums:
        held = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        return Sums(**{**held, "largest": torch.maximum(self.largest, other.largest)})


def added(parts: Sequence[Sums]) -> Sums:
    """The sum of parts, in their order."""
    held = parts[0]
    for part in parts[1:]:
        held = held + part
    return held


def stacked(parts: Sequence[Sums]) -> Sums:
    """Parts side by side, along a new first axis."""
    return Sums(**{field.name: torch.stack([getattr(part, field.name) for part in parts]) for field in fields(Sums)})


class Account:
    """Running sums of one stretch of entries of one tensor, in blocks of at most `block` entries."""

    def __init__(self, models: int, block: int):
        self._models = models
        self._signs = sign_counts(models, block)
        self._room = self._entries = 0
        self._square, self._total = torch.empty(block), torch.empty(block)
        self._half = torch.empty(block, dtype=torch.float16)
        self._bits = torch.empty(block, dtype=torch.int16)
        self._byte = torch.empty(block, dtype=torch.uint8)
        self._gram = torch.zeros(models + 1, models + 1, dtype=torch.float64)
        self._codes = torch.zeros(models, 256, dtype=torch.int64)
        self._mass = torch.zeros(2, dtype=torch.float64)
        self._largest = torch.zeros(models, dtype=torch.float64)
        self._fourth = torch.zeros(models, dtype=torch.float64)
        self._non_finite = torch.zeros(models + 1, dtype=torch.int64)

    def add(self, x: Float[Tensor, "inputs n"], entries: int) -> bool:
        """Add a block whose first `entries` columns are real and the others zero.

        False, and nothing is added, where a sum is no finite number: clean the block and give it in float64.
        """
        square, total = (self._buffer(buffer, x) for buffer in (self._square, self._total))
        counts = [self._measure(i, row, square, total) for i, row in enumerate(x[1:])]
        scalars = [scalar for row, _ in counts for scalar in row] + [total.abs_().sum()]
        scalars += [torch.dot(first, second) for i, first in enumerate(x) for second in x[i:]]
        sums = torch.stack(scalars).double()
        if not bool(torch.isfinite(sums.sum())):
            return False
        self._signs.close_block()
        self._room, self._entries = self._room + x.shape[1], self._entries + entries
        of_rows = 4 * self._models
        masses, fourths, lowest, highest = sums[:of_rows].view(-1, 4).unbind(1)
        self._mass += torch.stack([masses.sum(), sums[of_rows]])
        self._fourth += fourths
        self._largest = torch.maximum(self._largest, torch.maximum(highest, -lowest))
        self._gram[tuple(torch.triu_indices(*self._gram.shape))] += sums[of_rows + 1 :]
        for held, (_, found) in zip(self._codes, counts, strict=True):
            held += found
        return True

    def add_non_finite(self, counts: Int[Tensor, " inputs"]) -> None:
        """Entries that were made zero before the block was added."""
        self._non_finite += counts

    def sums(self) -> Sums:
        """What has been added, in the models' units."""
        signs = self._signs.sums()
        changed = signs.signs.diagonal().long()
        zeros = self._codes.new_zeros(self._models, 1) + self._entries - changed[:, None]
        magnitudes = torch.cat([zeros, self._codes[:, :CODES]], 1)
        # Zeros, the padding's too, and the smallest magnitudes have one code.
        magnitudes[:, 1] -= self._room - changed
        gram = self._gram + self._gram.triu(1).T
        gram[0, 1:] *= -1
        gram[1:, 0] *= -1
        return Sums(
            gram=gram / SCALE**2,
            signs=signs.signs,
            shared=signs.shared,
            disputed=signs.disputed,
            mass=self._mass / SCALE,
            magnitudes=magnitudes,
            largest=self._largest / SCALE,
            fourth=self._fourth / SCALE**4,
            non_finite=self._non_finite.clone(),
        )

    def _measure(
        self, i: int, row: Float[Tensor, " n"], square: Float[Tensor, " n"], total: Float[Tensor, " n"]
    ) -> tuple[list[Tensor], Int[Tensor, " codes"]]:
        """Sum of magnitudes and of fourth powers, smallest and largest entry; counts by leading bits."""
        if i:
            total.add_(row)
        else:
            total.copy_(row)
        signs = torch.sign(row, out=square)
        self._signs.take(i, signs)
        mass = torch.dot(signs, row)
        torch.mul(row, row, out=square)
        codes = self._codes_of(row)
        return [mass, torch.dot(square, square), *torch.aminmax(row)], torch.bincount(codes, minlength=256)

    def _codes_of(self, row: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Exponent and leading bits of each magnitude's fraction; the sign is cut off with the upper byte.

        Counting bytes takes half as long as counting wider numbers, and the way over half precision is the shortest.
        """
        half, bits, byte = (buffer[: len(row)] for buffer in (self._half, self._bits, self._byte))
        torch.bitwise_right_shift(half.copy_(row).view(torch.int16), REST_BITS, out=bits)
        return byte.copy_(bits)

    def _buffer(self, held: Tensor, x: Tensor) -> Tensor:
        return held[: x.shape[1]] if held.dtype == x.dtype else torch.empty(x.shape[1], dtype=x.dtype)
