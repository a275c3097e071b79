"""What a base model and its task vectors add to a diagnosis, block by block: sums and counts, one look at each entry.

A block is `(1 + models, entries)`: minus the base model in row 0, then the task vectors, all times SCALE. Scaling by a
power of two rounds nothing; with the base model negated, one operation scales a model and subtracts the base from it.
Sums over a block are in its precision, float32 but where that overflows, and over blocks in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import isfinite

from merging.analysis.magnitudes import ALL_CODES, REST_BITS, SCALE, raised
from merging.analysis.room import Room
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
    magnitudes counts of |tau| in the bins of `merging.analysis.magnitudes`, by a sample where the tensor is large
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
    """Running sums of one stretch of entries of one tensor, block by block.

    Of each block every `sampled`-th entry enters the counts of magnitudes, from another one on in each.
    """

    def __init__(self, models: int, sampled: int = 1):
        self._models, self._sampled = models, sampled
        self._signs = sign_counts(models)
        self._room: Room | None = None
        self._entries = 0
        self._blocks: list[Float[Tensor, " sums"]] = []
        self._codes = torch.zeros(models, ALL_CODES, dtype=torch.int64)
        self._unlike_zero = torch.zeros(models, dtype=torch.int64)
        self._non_finite = torch.zeros(models + 1, dtype=torch.int64)

    def add(self, x: Float[Tensor, "inputs n"], entries: int) -> bool:
        """Add a block whose first `entries` columns are real and the others zero; blocks in one memory cost least.

        False, and nothing is added, where a sum is no finite number: clean the block and give it in float64.
        """
        if self._room is None or self._room.block is not x:
            self._room = Room(x, self._sampled)
        room = self._room
        scalars = [self._mass(room), _net(room), *_fourths(room), *_ends(room)]
        scalars += [torch.dot(first, second) for first, second in room.pairs]
        sums = torch.stack(scalars)
        if not isfinite(float(sums.sum())):
            return False
        self._signs.close_block()
        sample = room.samples[len(self._blocks) % self._sampled]
        self._unlike_zero += torch.count_nonzero(sample, dim=1)
        for held, found in zip(self._codes, _codes(room, sample), strict=True):
            held += found
        self._blocks.append(sums)
        self._entries += entries
        return True

    def add_non_finite(self, counts: Int[Tensor, " inputs"]) -> None:
        """Entries that were made zero before the block was added."""
        self._non_finite += counts

    def sums(self) -> Sums:
        """What has been added, in the models' units."""
        signs, m = self._signs.sums(), self._models
        none = torch.zeros(2 + 3 * m + (m + 1) * (m + 2) // 2)
        found = torch.stack([block.double() for block in self._blocks or [none]])
        masses, fourths, ends, products = torch.split(found, [2, m, 2 * m, found.shape[1] - 2 - 3 * m], 1)
        gram = _square(products.sum(0), m + 1)
        return Sums(
            gram=gram / SCALE**2,
            signs=signs.signs,
            shared=signs.shared,
            disputed=signs.disputed,
            mass=masses.sum(0) / SCALE,
            magnitudes=self._magnitudes(signs.signs.diagonal().long(), gram.diagonal()[1:].sqrt()),
            largest=ends.abs().amax(0).view(m, 2).amax(1) / SCALE,
            fourth=fourths.sum(0) / SCALE**4,
            non_finite=self._non_finite.clone(),
        )

    def _mass(self, room: Room) -> Float[Tensor, ""]:
        """The sum of all magnitudes; the signs are taken on the way."""
        torch.sign(room.tau, out=room.wide)
        self._signs.take(room.wide_rows)
        return torch.dot(room.wide_line, room.line)

    def _magnitudes(
        self, changed: Int[Tensor, " models"], lengths: Float[Tensor, " models"]
    ) -> Int[Tensor, "models bins"]:
        # Zeros, the padding's too, and the smallest magnitudes have one code.
        small = self._codes[:, :1] + self._unlike_zero[:, None] - self._codes.sum(1, keepdim=True)
        codes = torch.cat([small, self._codes[:, 1:]], 1)
        return torch.cat([self._entries - changed[:, None], raised(codes, changed, lengths)], 1)


def _net(room: Room) -> Float[Tensor, ""]:
    """What is left of all magnitudes when the task vectors are added up."""
    total = room.total.copy_(room.taus[0])
    for row in room.taus[1:]:
        total.add_(row)
    return total.abs_().sum()


def _fourths(room: Room) -> list[Float[Tensor, ""]]:
    """Sums of fourth powers."""
    torch.mul(room.tau, room.tau, out=room.wide)
    return [torch.dot(row, row) for row in room.wide_rows]


def _ends(room: Room) -> list[Float[Tensor, ""]]:
    """The smallest and the largest entry of each task vector."""
    return [end for row in room.taus for end in torch.aminmax(row)]


def _codes(room: Room, sample: Float[Tensor, "models n"]) -> list[Int[Tensor, " codes"]]:
    """Counts of exponents and leading bits of the fractions; the sign is cut off with the upper byte.

    Counting bytes takes half as long as counting wider numbers, and the way over half precision is the shortest.
    """
    room.half.copy_(sample)
    torch.bitwise_right_shift(room.half_bits, REST_BITS, out=room.bits)
    room.codes.copy_(room.bits)
    return [torch.bincount(row, minlength=ALL_CODES) for row in room.code_rows]


def _square(upper: Float[Tensor, " pairs"], inputs: int) -> Float[Tensor, "inputs inputs"]:
    """The Gram matrix; its first input came negated."""
    gram = upper.new_zeros(inputs, inputs)
    gram[tuple(torch.triu_indices(inputs, inputs))] = upper
    gram += gram.triu(1).T
    gram[0, 1:] *= -1
    gram[1:, 0] *= -1
    return gram
