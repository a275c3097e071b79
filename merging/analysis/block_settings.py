"""Block weights as a recipe says them: one number, a gradient, or a list of filters, whichever is shortest.

Recipes know no blocks. A filter is text that a tensor's name contains, the first that matches decides; a list is a
gradient over all layers of a stack. Which texts and gradients give every tensor its weight, no more and no less, is a
covering problem; it is solved greedily, most tensors for the fewest letters first, on the actual names, so that layer 1
is never taken for layer 11.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from merging.analysis.blocks import BlockWeights, depth_of, part_of
from merging.analysis.curves import nearest_list, shortest_list
from merging.recipe.settings import interpolate

Rule: TypeAlias = tuple[float, ...]
# The same value of a recipe: a number, a gradient, or conditions.
Data: TypeAlias = float | list[float] | list[dict[str, Any]]
# Values that are tried as what holds where no filter matches.
MOST_DEFAULTS = 4
# Spellings of one set of tensors that are tried, shortest first, and letters a word must have to be one.
MOST_SPELLINGS, SHORTEST_WORD = 3, 3
# Parts of words that say more than other words of their length.
WORDS = ("attn", "attention", "mlp", "norm", "expert", "embed", "head")
# What a condition costs beside its filter and its value: `- filter: ` and `value: ` with indentation.
CONDITION_LETTERS = 24


def block_settings(weights: BlockWeights) -> Data:
    """What to write for `weight:` in a model's parameters, so that planning gives every tensor its weight exactly.

    The result is plain data as YAML holds it, and as the mergekit dialect reads it. The layers of each stack are
    counted in the tensors at hand, which are to be all that are merged.

    >>> from merging.analysis.block_text import read_block_weights
    >>> from merging.analysis.diagnosis import Placed
    >>> tensors = [Placed(f"h.{i}.{part}", (2,), 2, "", i, part) for i in range(12) for part in ("attn", "mlp")]
    >>> block_settings(read_block_weights("0,1", tensors))
    [0.0, 1.0]
    >>> block_settings(read_block_weights("1; 1=0.5", tensors))
    [{'filter': '.1.', 'value': 0.5}, {'value': 1.0}]
    """
    wanted = _Wanted.of(weights)
    if not wanted.values:
        return weights.plain
    everything = wanted.rule(range(len(wanted.values)))
    if everything is not None and len(everything) <= 2:
        return _value(everything)
    cover = _Cover(wanted)
    best = [("", everything)] if everything is not None else None
    for default in wanted.defaults():
        found = cover.conditions(default, _letters(best) if best else None)
        best = found or best
    assert best
    if len(best) == 1:
        return _value(best[0][1])
    return [{"filter": text, "value": _value(rule)} if text else {"value": _value(rule)} for text, rule in best]


@dataclass(frozen=True)
class _Wanted:
    """Every tensor's name, weight and depth."""

    names: tuple[str, ...]
    values: tuple[float, ...]
    fractions: tuple[float, ...]
    groups: tuple[tuple[str, str], ...]
    depths: Mapping[str, int]
    _known: dict[frozenset[tuple[float, float]], Rule | None]

    @staticmethod
    def of(weights: BlockWeights) -> _Wanted:
        depths = weights.depths
        return _Wanted(
            tuple(each.name for each in weights.tensors),
            weights.per_tensor(),
            tuple(depth_of(each.layer, 0, depths.get(each.stack, 1) - 1) for each in weights.tensors),
            tuple((each.stack, part_of(each)) for each in weights.tensors),
            depths,
            {},
        )

    def rule(self, tensors: Sequence[int] | frozenset[int] | set[int] | range) -> Rule | None:
        """The shortest value that is right for all of these."""
        points = frozenset((self.fractions[i], self.values[i]) for i in tensors)
        if points not in self._known:
            self._known[points] = shortest_list(sorted(points), set(self.depths.values()))
        return self._known[points]

    def obeys(self, i: int, rule: Rule) -> bool:
        """Whether a value is right for a tensor."""
        return interpolate(rule, self.fractions[i]) == self.values[i]

    def defaults(self) -> list[Rule]:
        """What may hold where no filter matches: frequent weights, and the curve of each part."""
        found: list[Rule] = [(value,) for value, _ in Counter(self.values).most_common(MOST_DEFAULTS)]
        for group in dict.fromkeys(self.groups):
            inside = [i for i, own in enumerate(self.groups) if own == group]
            # Without the tensors outside the layers, which one gradient seldom suits.
            for kept in (inside, [i for i in inside if self.fractions[i] > 0]):
                rule = self._near(kept, group[0])
                found += [rule] if rule and rule not in found else []
        return found

    def _near(self, tensors: Sequence[int], stack: str) -> Rule | None:
        """The value that is right for all, or for all but a few layers that rounding keeps from theirs."""
        points = {self.fractions[i]: self.values[i] for i in tensors}
        if not points or any(points[self.fractions[i]] != self.values[i] for i in tensors):
            return None
        return self.rule(tensors) or nearest_list(sorted(points.items()), self.depths.get(stack, 1))


class _Cover:
    """Filters that single out tensors, and the search for few of them."""

    def __init__(self, wanted: _Wanted):
        self._wanted = wanted
        self._texts = _texts(wanted.names)
        self._least = {text: _price(text, (0.5,)) for texts in self._texts for text in texts}
        self._matching: dict[str, frozenset[int]] = {}

    def conditions(self, default: Rule, below: int | None) -> list[tuple[str, Rule]] | None:
        """Filters with their values in order, at last "" with the default; None unless it takes fewer letters."""
        wanted = self._wanted
        left = set(range(len(wanted.names)))
        wrong = {i for i in left if not wanted.obeys(i, default)}
        found: list[tuple[str, Rule]] = []
        letters = _price("", default)
        while wrong:
            text, rule = self._best(left, wrong)
            found.append((text, rule))
            letters += _price(text, rule)
            # What is not needed in the end is seldom much.
            if below is not None and letters > 2 * below:
                return None
            left -= self._matches(text)
            wrong -= self._matches(text)
        needed = self._needed([*found, ("", default)])
        return needed if below is None or _letters(needed) < below else None

    def _best(self, left: set[int], wrong: set[int]) -> tuple[str, Rule]:
        """The filter that puts most tensors right for the letters it takes."""
        gains = Counter(text for i in wrong for text in self._texts[i])
        # Above what a filter can reach even with a short value, no search is needed.
        ordered = sorted((-gain / self._least[text], text not in WORDS, text) for text, gain in gains.items())
        best: tuple[float, str, Rule] | None = None
        for bound, _, text in ordered:
            if best is not None and -bound <= best[0]:
                break
            found = self._matches(text) & left
            rule = self._wanted.rule(found) if found & wrong else None
            if rule is not None:
                rate = len(found & wrong) / _price(text, rule)
                best = (rate, text, rule) if best is None or rate > best[0] else best
        if best is None:
            return self._by_name(left, wrong)
        return best[1], best[2]

    def _by_name(self, left: set[int], wrong: set[int]) -> tuple[str, Rule]:
        """The longest name as a filter; or a filter for others that contain it, which have to go first."""
        last = max(wrong, key=lambda i: len(self._wanted.names[i]))
        name = self._wanted.names[last]
        longer = (self._matches(name) & left) - {last}
        return self._best(left, set(longer)) if longer else (name, (self._wanted.values[last],))

    def _matches(self, text: str) -> frozenset[int]:
        if text not in self._matching:
            self._matching[text] = frozenset(i for i, name in enumerate(self._wanted.names) if text in name)
        return self._matching[text]

    def _needed(self, conditions: list[tuple[str, Rule]]) -> list[tuple[str, Rule]]:
        """Without those whose tensors what comes after them puts right as well."""
        matches = [self._matches(text) for text, _ in conditions]
        first = [next(k for k, found in enumerate(matches) if i in found) for i in range(len(self._wanted.names))]
        kept = set(range(len(conditions)))
        for k in reversed(range(len(conditions) - 1)):
            own = [i for i, decides in enumerate(first) if decides == k]
            after = [next(later for later in sorted(kept) if later > k and i in matches[later]) for i in own]
            if all(self._wanted.obeys(i, conditions[later][1]) for i, later in zip(own, after, strict=True)):
                kept.discard(k)
                for i, later in zip(own, after, strict=True):
                    first[i] = later
        return [conditions[k] for k in sorted(kept)]


def _texts(names: Sequence[str]) -> list[list[str]]:
    """Texts of every name that filters are chosen from: of those that speak of the same names the shortest few."""
    speaks: dict[str, set[int]] = {}
    for i, name in enumerate(names):
        for text in _pieces(name):
            speaks.setdefault(text, set()).add(i)
    spellings: dict[frozenset[int], int] = {}
    found: list[list[str]] = [[] for _ in names]
    for text in sorted(speaks, key=lambda text: (len(text), text not in WORDS, text)):
        same = frozenset(speaks[text])
        spellings[same] = spellings.get(same, 0) + 1
        for i in same if spellings[same] <= MOST_SPELLINGS else ():
            found[i].append(text)
    return found


def _pieces(name: str) -> Iterator[str]:
    """Runs of a name's parts with the dots around them, whole words of a part, and the name."""
    parts = name.split(".")
    for a in range(len(parts)):
        for b in range(a + 1, len(parts) + 1):
            yield ("." if a else "") + ".".join(parts[a:b]) + ("." if b < len(parts) else "")
    for part in parts:
        words = part.split("_")
        runs = ("_".join(words[a:b]) for a in range(len(words)) for b in range(a + 1, len(words) + 1))
        yield from (text for text in runs if len(text) >= SHORTEST_WORD and not text.isdigit())
    yield from (word for word in WORDS if word in name)


def _price(text: str, rule: Rule) -> int:
    return CONDITION_LETTERS + len(text) + len(str(_value(rule)))


def _letters(conditions: Sequence[tuple[str, Rule]]) -> int:
    return sum(_price(text, rule) for text, rule in conditions)


def _value(rule: Rule) -> float | list[float]:
    return rule[0] if len(rule) == 1 else list(rule)
