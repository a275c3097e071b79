"""Words of sentences about several things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from merging.analysis.regions import spelled, stretches

MOST_NAMES = 3
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def plural(count: int, one: str, several: str) -> str:
    """One word for one thing, another for several."""
    return one if count == 1 else several


def spelled_count(number: int) -> str:
    """A number as a word, where it is small."""
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


def joined(words: Sequence[str]) -> str:
    """Words with commas and an `and`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def listed(names: Sequence[str]) -> str:
    """The first few tensors by name, and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more {plural(more, 'tensor', 'tensors')}" if more > 0 else "")


def changed_layers(stack: str, changed: Mapping[int, bool]) -> str:
    """The layers of a stack that a model changed, runs of them together."""
    chosen = sorted(layer for layer, moved in changed.items() if moved)
    if not chosen:
        return f"tensors outside the {stack} layers".replace("  ", " ")
    return f"{stack} ".lstrip() + joined([spelled(first, last) for first, last in stretches(chosen)])
