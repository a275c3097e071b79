"""Masks of one bit an entry: entry 8 k + j of a tensor, in row-major order, is bit j of byte k."""

from __future__ import annotations

from functools import cache

from merging.lazy import Bool, Int, Tensor, torch

# Entries in a byte.
BITS = 8


def packed_bytes(entries: int) -> int:
    """Bytes that the mask of so many entries takes.

    >>> packed_bytes(0), packed_bytes(8), packed_bytes(9)
    (0, 1, 2)
    """
    return -(-entries // BITS)


def pack(mask: Bool[Tensor, " n"]) -> Tensor:
    """A mask as uint8; bits beyond the last entry are zero.

    >>> pack(torch.tensor([True, False, True] + 6 * [False] + [True])).tolist()
    [5, 2]
    """
    short = -mask.numel() % BITS
    whole = torch.cat([mask, mask.new_zeros(short)]) if short else mask
    # Eight bytes of zero or one at once: each step halves the distance of the bits that belong together.
    words = whole.contiguous().view(torch.uint8).view(torch.int64)
    for shift in (7, 14, 28):
        words = words | (words >> shift)
    return (words & 0xFF).to(torch.uint8)


def unpack(packed: Tensor, first: int, entries: int) -> Tensor:
    """Bits [first, first + entries) of packed bytes, as uint8 of zero or one.

    >>> unpack(torch.tensor([5, 2], dtype=torch.uint8), 1, 9).tolist()
    [0, 1, 0, 0, 0, 0, 0, 0, 1]
    """
    spread = _spread().index_select(0, packed.to(torch.int32)).view(torch.uint8)
    return spread[first : first + entries]


@cache
def _spread() -> Int[Tensor, "256"]:
    """Eight bytes of zero or one for every byte, as one word."""
    bits = torch.arange(256).unsqueeze(1) >> torch.arange(BITS) & 1
    return bits.to(torch.uint8).view(torch.int64).view(-1)
