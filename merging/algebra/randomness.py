"""Random numbers addressed by seed, tensor, model and position, never drawn from a stream.

The number of an entry is a hash of its address: three rounds of multiplication and shifts over 32 bits, keyed by seed,
tensor and model. Integers wrap alike everywhere, so the numbers are the same for any block, order, thread count and
device. A hash serves two neighbouring entries with 16 bits each: probabilities are multiples of 2^-16.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b

from merging.lazy import Float, Int, Tensor, torch

# Shifts and multipliers of a 32-bit finaliser of low avalanche bias, Chris Wellons' "triple32".
ROUNDS = ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB))
LAST_SHIFT = 14
WORDS = 1 << 32
LEVELS = 1 << 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block of entries stands: the recipe's seed, the output tensor's name, the first entry's position."""

    seed: int = 0
    tensor: str = ""
    start: int = 0


def uniform(place: Place, model: int, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """A number in (0, 1) for each entry of `x`, which stands at `place`: an odd multiple of 2^-17.

    >>> x = torch.zeros(4)
    >>> bool((uniform(Place(start=2), 0, x[:2]) == uniform(Place(), 0, x)[2:]).all())
    True
    """
    halves = _halves(place, model, x.numel(), x.device)
    return halves.to(torch.float32).add_(0.5 + LEVELS // 2).mul_(1 / LEVELS).reshape(x.shape)


def keep_random(
    x: Float[Tensor, "models *shape"], place: Place, share: Float[Tensor, "models *ones"]
) -> Float[Tensor, "models *shape"]:
    """Entries of each model for which a coin of probability `representable(share)` falls, zero elsewhere.

    A dropped entry that is not finite becomes NaN, so that it stays visible.
    """
    kept = torch.empty_like(x)
    for model, (row, found, each) in enumerate(zip(x, kept, share.flatten().tolist(), strict=True)):
        level = round(each * LEVELS)
        if level >= LEVELS:
            found.copy_(row)
            continue
        coins = _below(_halves(place, model, row.numel(), row.device), level - LEVELS // 2)
        found.copy_(coins.view(row.shape)).mul_(row)
    return kept


def representable(share: Float[Tensor, "*models"]) -> Float[Tensor, "*models"]:
    """The probability that a coin of this share really has: the nearest multiple of 2^-16."""
    return (share * LEVELS).round() / LEVELS


def _below(halves: Int[Tensor, " entries"], level: int) -> Int[Tensor, " entries"]:
    """1 for what is smaller, 0 for the rest. Numpy's comparison takes a twentieth of the time of torch's."""
    if not halves.is_cpu:
        return (halves < level).view(torch.int8)
    return torch.from_numpy((halves.numpy() < level).view("int8"))


def _halves(place: Place, model: int, entries: int, device: torch.device) -> Int[Tensor, " entries"]:
    """16 random bits, signed, for each of consecutive positions."""
    word, odd = divmod(place.start, 2)
    words = (entries + odd + 1) // 2
    return _words(replace(place, start=word), model, words, device).view(torch.int16)[odd : odd + entries]


def _words(place: Place, model: int, words: int, device: torch.device) -> Int[Tensor, " words"]:
    """32 random bits for each of consecutive words; their upper positions enter the key, the lower ones the hash."""
    room = WORDS - place.start % WORDS
    if words > room:
        rest = replace(place, start=place.start + room)
        return torch.cat([_words(place, model, room, device), _words(rest, model, words - room, device)])
    address = f"{place.seed}/{model}/{place.start // WORDS}/{place.tensor}"
    key = int.from_bytes(blake2b(address.encode(), digest_size=8).digest(), "little")
    x = _counting(words, str(device)) + _signed(place.start + key)
    for shift, multiplier in ROUNDS:
        _mix(x, shift)
        x.mul_(_signed(multiplier))
        if shift == ROUNDS[0][0]:
            # Without a second key one tensor's numbers would be another's, further along.
            x.add_(_signed(key >> 32))
    _mix(x, LAST_SHIFT)
    return x


def _mix(x: Int[Tensor, " words"], shift: int) -> None:
    """x ^= x >> shift, without the sign that int32 shifts in; numpy's words have none, and half of torch's time."""
    if x.is_cpu:
        words = x.numpy().view("uint32")
        words ^= words >> shift
    else:
        x.bitwise_xor_((x >> shift).bitwise_and_((1 << (32 - shift)) - 1))


@lru_cache(maxsize=8)
def _counting(words: int, device: str) -> Int[Tensor, " words"]:
    return torch.arange(words, dtype=torch.int32, device=device)


def _signed(number: int) -> int:
    """The int32 with these lower 32 bits."""
    return (number + WORDS // 2) % WORDS - WORDS // 2
