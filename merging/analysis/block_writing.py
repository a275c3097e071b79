"""Block weights as a short line of text: curves of parts, then what stands out from them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from merging.analysis.block_text import PLAIN, read_block_weights
from merging.analysis.blocks import PARTS, Block, BlockWeights, Part, depth_of, stack_word
from merging.analysis.curves import Curve, named_curve, shortest_list
from merging.analysis.regions import stretches

Weighed: TypeAlias = tuple[Block, float | None]
Key: TypeAlias = tuple[str, Part]
# Stands for layers that are put together afterwards.
LAYERS = "{}"


def write_block_weights(weights: BlockWeights) -> str:
    """A short line of text that reads back as these weights.

    >>> from merging.analysis.block_text import read_block_weights
    >>> from merging.analysis.diagnosis import Placed
    >>> tensors = [Placed(f"{i}.{part}", (2,), 2, "", i, part) for i in range(25) for part in ("attn", "mlp")]
    >>> write_block_weights(read_block_weights("mlp=0,0.5,2; attention=0.3", tensors))
    '0.3; mlp=0,0.5,2'
    """
    groups: dict[Key, list[Weighed]] = {}
    for block, value in zip(weights.blocks, weights.values, strict=True):
        groups.setdefault((block.stack, block.part), []).append((block, value))
    curves = {key: list(_curves(members, weights.depths.get(key[0], 1))) for key, members in groups.items()}
    # A part that follows a curve but for a few blocks is most often one that another part follows as well.
    known = list(dict.fromkeys(curve for found in curves.values() for curve in found))
    rules = {key: _rule(members, weights.depths.get(key[0], 1), known) for key, members in groups.items()}
    usual = Counter(rules.values()).most_common(1)[0][0] if rules else PLAIN
    items = [] if usual == PLAIN else [usual]
    reached = _reached(items, weights)
    # Where the usual rule does as well, as for an embedding that has the first value of a curve, nothing is said.
    rules |= {key: usual for key in rules if all(reached[block.name] == value for block, value in groups[key])}
    for rule in dict.fromkeys(rules.values()):
        if rule != usual:
            items += [f"{words}={rule}" for words in _words([key for key in rules if rules[key] == rule], rules)]
    return "; ".join([*items, *_exceptions(weights, _reached(items, weights))]) or PLAIN


def _reached(items: Sequence[str], weights: BlockWeights) -> dict[str, float | None]:
    """What items say of every block by name."""
    found = read_block_weights("; ".join(items), weights.tensors, plain=weights.plain, by=weights.by)
    return {block.name: value for block, value in zip(found.blocks, found.values, strict=True)}


def _rule(members: Sequence[Weighed], depth: int, curves: Sequence[Curve]) -> str:
    """What to say of a part in one stack, so that this and its exceptions are short: one value, or a curve."""
    usual = Counter(value for _, value in members).most_common(1)[0][0]
    values: list[tuple[str, list[float | None]]] = [(_number(usual), [usual] * len(members))]
    for curve in curves:
        drawn = curve.over(depth)
        values.append((str(curve), [drawn.at(depth_of(block.layer, 0, depth - 1)) for block, _ in members]))

    def letters(rule: tuple[str, list[float | None]]) -> int:
        differing = [each for each, value in zip(members, rule[1], strict=True) if each[1] != value]
        return len(rule[0]) + _exceptional(differing)

    return min(values, key=letters)[0]


def _curves(members: Sequence[Weighed], depth: int) -> Iterator[Curve]:
    """Curves that give all blocks of a part their value, or all that stand in layers; none where one is plain."""
    for kept in (members, [(block, value) for block, value in members if block.layer is not None]):
        points = {(depth_of(block.layer, 0, depth - 1), value) for block, value in kept if value is not None}
        if not points or any(value is None for _, value in kept):
            continue
        if listed := shortest_list(sorted(points), [depth]):
            yield Curve(listed)
        if len(dict(points)) == len(points) and (named := named_curve(points, depth)):
            yield named


def _exceptional(members: Sequence[Weighed]) -> int:
    """About how many letters exceptions take; layers of one value go together."""
    layers: dict[float | None, list[int]] = {}
    for block, value in members:
        layers.setdefault(value, []).append(-1 if block.layer is None else block.layer)
    part = len(members[0][0].part) if members else 0
    return sum(
        part + len(_number(value)) + 3 + sum(len(each) + 1 for each in _ranges(found))
        for value, found in layers.items()
    )


def _words(keys: Sequence[Key], rules: Mapping[Key, str]) -> Iterator[str]:
    """Selections of these parts and stacks; a part that is the same in every stack needs no stack."""
    several = len({stack for stack, _ in rules}) > 1
    whole = [part for part in PARTS if {key for key in rules if key[1] == part} & set(keys)]
    whole = [part for part in whole if all(key in keys for key in rules if key[1] == part)]
    if whole:
        yield " ".join(whole)
    for stack in dict.fromkeys(stack for stack, _ in keys):
        parts = [part for part in PARTS if part not in whole and (stack, part) in keys]
        if parts:
            yield " ".join([*([stack_word(stack)] if several else []), *parts])


def _exceptions(weights: BlockWeights, reached: Mapping[str, float | None]) -> Iterator[str]:
    """One item for all layers of a part that want one value."""
    groups: dict[tuple[str, float | None], list[Block]] = {}
    for block, value in zip(weights.blocks, weights.values, strict=True):
        if value != reached[block.name]:
            layered = weights.by == "part" and block.layer is not None
            spelled = block.name.replace(str(block.layer), LAYERS, 1) if layered else block.name
            groups.setdefault((spelled, value), []).append(block)
    for (spelled, value), found in groups.items():
        if weights.by == "tensor":
            words = "/^" + re.escape(spelled).replace("/", "\\/") + "$/"
        else:
            words = spelled.replace(LAYERS, " ".join(_ranges([block.layer or 0 for block in found])))
        yield f"{words}={_number(value)}"


def _ranges(layers: Sequence[int]) -> Iterator[str]:
    """Layers in ascending order as ranges: 0-2 5."""
    for first, last in stretches(layers):
        yield f"{first}-{last}" if first < last else str(first)


def _number(value: float | None) -> str:
    return PLAIN if value is None else str(Curve((value,)))
