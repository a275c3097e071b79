"""Named blocks of a model's tensors, and a weight for each: which part, in which layer, takes how much of a fine-tune.

A block is a part of one layer: attention, mlp (experts and routers among it), norm, other; and outside the layers also
embedding and head. Its name selects it: "7 attention", "encoder 3 mlp", "embedding", "outer norm". Families say which
tensor is what; where none does, the words of its name decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Literal, TypeAlias

from merging.analysis.curves import SOLVED_DIGITS, Curve
from merging.errors import MergingError
from merging.lazy import Float, Tensor, torch

if TYPE_CHECKING:
    from merging.analysis.diagnosis import Placed

Part: TypeAlias = Literal["attention", "mlp", "norm", "embedding", "head", "other"]
By: TypeAlias = Literal["part", "tensor"]
PARTS: tuple[Part, ...] = ("embedding", "attention", "mlp", "norm", "other", "head")
# What a role, or what a name says after the number of its layer, speaks of; the first that is found decides.
WORDS: tuple[tuple[Part, str], ...] = (
    ("norm", r"norm|(^|[._])(ln|bn|gn)(_?\d|_f|[._]|$)"),
    ("attention", r"attn|attention|(^|[._])(to_[qkv]|to_out|qkv)([._]|$)"),
    ("mlp", r"mlp|ffn?([._]|$)|feed_?forward|expert|router|moe|intermediate|denserelu"),
    ("attention", r"(^|[._])(q|k|v|o|w[qkvo]|query|key|value)(_proj|_lin)?([._]|$)"),
    ("mlp", r"(^|[._])(fc|lin|w)_?\d|(gate|up|down)_proj"),
)
OUTER_WORDS: tuple[tuple[Part, str], ...] = (
    ("head", r"unembed|embed_out|head|classifier|logits|(^|\.)score([._]|$)"),
    WORDS[0],
    ("embedding", r"embed|wte|wpe|patch|(cls|class|mask|distillation)_token|(^|\.)shared\."),
)


@dataclass(frozen=True, slots=True)
class Block:
    """Tensors that share a weight, by their positions; `layer` None outside the layers of the stack."""

    name: str
    stack: str
    layer: int | None
    part: Part
    tensors: tuple[int, ...]
    entries: int


@dataclass(frozen=True)
class Selection:
    """Blocks by stack, layers, part and a regular expression in the names of their tensors; empty fields select all.

    `layers` are ranges with both ends; `outer` adds what stands outside the layers.
    """

    stacks: tuple[str, ...] = ()
    layers: tuple[tuple[int, int], ...] = ()
    outer: bool = False
    parts: tuple[Part, ...] = ()
    pattern: str | None = None

    def takes(self, block: Block) -> bool:
        """Whether a block is selected, by all but its tensors' names."""
        if self.layers or self.outer:
            inside = block.layer is not None and any(a <= block.layer <= b for a, b in self.layers)
            if not (inside or (self.outer and block.layer is None)):
                return False
        return (not self.stacks or block.stack in self.stacks) and (not self.parts or block.part in self.parts)


@dataclass(frozen=True)
class Selected:
    """What a selection selects: positions of blocks, and how many tensors and entries they hold."""

    blocks: tuple[int, ...]
    tensors: int
    entries: int


def part_of(placed: Placed) -> Part:
    """Which part a tensor belongs to.

    A normalisation is one wherever it stands, also within attention. Embeddings and heads stand outside the layers.
    """
    role = (placed.role or placed.name.rpartition(f".{placed.layer}.")[2]).lower()
    for part, words in OUTER_WORDS if placed.layer is None else WORDS:
        if re.search(words, role):
            return part
    return "other"


def blocks(tensors: Sequence[Placed], by: By = "part") -> tuple[Block, ...]:
    """Every tensor in one block: parts of layers, or by "tensor" each by itself, called by its name.

    Embeddings come first, then the layers of each stack, then what else stands outside them.
    """
    return _partition(tuple(tensors), by)


# Every change of a weight asks for the blocks of the same tensors again.
@lru_cache(maxsize=16)
def _partition(tensors: tuple[Placed, ...], by: By) -> tuple[Block, ...]:
    several = len({each.stack for each in tensors}) > 1
    groups: dict[tuple[str, int | None, Part, str], list[int]] = {}
    for i, each in enumerate(tensors):
        key = (each.stack, each.layer, part_of(each), each.name if by == "tensor" else "")
        groups.setdefault(key, []).append(i)
    stacks = list(dict.fromkeys(each.stack for each in tensors))

    def order(key: tuple[str, int | None, Part, str]) -> tuple[int, int, int, int]:
        stack, layer, part, _ = key
        return (
            0 if part == "embedding" else 2 if layer is None else 1,
            stacks.index(stack),
            -1 if layer is None else layer,
            PARTS.index(part),
        )

    found = []
    for key in sorted(groups, key=order):
        stack, layer, part, name = key
        entries = sum(tensors[i].entries for i in groups[key])
        spelled = name or _spelled(stack, layer, part, several)
        found.append(Block(spelled, stack, layer, part, tuple(groups[key]), entries))
    return tuple(found)


def stack_word(stack: str) -> str:
    """A stack as selections name it; what belongs to none of several is shared."""
    return stack or "shared"


def _spelled(stack: str, layer: int | None, part: Part, several: bool) -> str:
    outer = "" if part in ("embedding", "head") else "outer"
    return " ".join(filter(None, (stack_word(stack) if several else "", outer if layer is None else str(layer), part)))


def depths(tensors: Sequence[Placed]) -> dict[str, int]:
    """Number of layers of each stack."""
    found: dict[str, int] = {}
    for each in tensors:
        if each.layer is not None:
            found[each.stack] = max(found.get(each.stack, 0), each.layer + 1)
    return found


def depth_of(layer: int | None, first: int, last: int) -> float:
    """How deep a layer lies between two, as a recipe's gradients count it: outside the layers 0, of a single one 1."""
    if layer is None:
        return 0.0
    return min(1.0, max(0.0, (layer - first) / (last - first))) if last > first else 1.0


@dataclass(frozen=True)
class BlockWeights:
    """A weight for every block of one model; None is `plain`, the model's weight where nothing else is said."""

    tensors: tuple[Placed, ...]
    values: tuple[float | None, ...]
    plain: float = 1.0
    by: By = "part"

    @staticmethod
    def of(tensors: Sequence[Placed], plain: float = 1.0, by: By = "part") -> BlockWeights:
        """The plain weight for all blocks."""
        return BlockWeights(tuple(tensors), (None,) * len(blocks(tensors, by)), plain, by)

    def __post_init__(self) -> None:
        if len(self.values) != len(self.blocks):
            raise MergingError(f"{len(self.values)} weights are no weights of {len(self.blocks)} blocks")
        if not all(isfinite(value) for value in (self.plain, *self.values) if value is not None):
            raise MergingError("a weight is not a finite number", must_be="finite numbers, or None for the plain one")

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks, in the order of the values."""
        return blocks(self.tensors, self.by)

    @cached_property
    def depths(self) -> dict[str, int]:
        """Number of layers of each stack."""
        return depths(self.tensors)

    def per_tensor(self) -> tuple[float, ...]:
        """The weight of every tensor."""
        found = [0.0] * len(self.tensors)
        for block, value in zip(self.blocks, self.values, strict=True):
            for i in block.tensors:
                found[i] = self.plain if value is None else value
        return tuple(found)

    def select(self, selection: Selection) -> Selected:
        """The blocks of a selection.

        Raises MergingError for a pattern that is no regular expression, and where it matches some tensors of a block
        and not others: those have one weight, which `refined` takes apart.
        """
        taken = [i for i, block in enumerate(self.blocks) if selection.takes(block)]
        if selection.pattern is not None:
            taken = self._matching(taken, selection.pattern)
        found = [self.blocks[i] for i in taken]
        return Selected(tuple(taken), sum(len(block.tensors) for block in found), sum(block.entries for block in found))

    def set(self, selection: Selection, curve: Curve | float | None) -> BlockWeights:
        """The selected blocks at a value, or along a curve over the selected layers; None makes them plain again.

        Outside the layers a curve has its first value, as in recipes.
        """
        return self._changed(selection, curve, lambda _, value: value)

    def add(self, selection: Selection, curve: Curve | float) -> BlockWeights:
        """The selected blocks more by a value or a curve."""
        return self._changed(selection, curve, lambda old, value: round(old + value, SOLVED_DIGITS))

    def multiply(self, selection: Selection, curve: Curve | float) -> BlockWeights:
        """The selected blocks times a value or a curve."""
        return self._changed(selection, curve, lambda old, value: round(old * value, SOLVED_DIGITS))

    def refined(self) -> BlockWeights:
        """The same weights with every tensor a block of its own."""
        block_of = {i: value for block, value in zip(self.blocks, self.values, strict=True) for i in block.tensors}
        fine = blocks(self.tensors, "tensor")
        return BlockWeights(self.tensors, tuple(block_of[block.tensors[0]] for block in fine), self.plain, "tensor")

    def _matching(self, taken: Iterable[int], pattern: str) -> list[int]:
        try:
            found = re.compile(pattern)
        except re.error as error:
            raise MergingError(f"{pattern!r} is no regular expression: {error}") from None
        kept = []
        for i in taken:
            hits = sum(bool(found.search(self.tensors[t].name)) for t in self.blocks[i].tensors)
            if 0 < hits < len(self.blocks[i].tensors):
                raise MergingError(
                    f"{pattern!r} matches {hits} of {len(self.blocks[i].tensors)} tensors of {self.blocks[i].name}",
                    must_be="all or none of a block, whose tensors have one weight",
                    fix="take every tensor for a block of its own",
                )
            kept += [i] if hits else []
        return kept

    def _changed(
        self, selection: Selection, curve: Curve | float | None, change: Callable[[float, float], float]
    ) -> BlockWeights:
        values = list(self.values)
        curve = Curve((float(curve),)) if isinstance(curve, int | float) else curve
        for i in self.select(selection).blocks:
            block, old = self.blocks[i], values[i]
            if curve is None:
                values[i] = None
                continue
            first, last = self._range(block.stack, selection)
            value = curve.over(last - first + 1).at(depth_of(block.layer, first, last))
            values[i] = change(self.plain if old is None else old, value)
        return replace(self, values=tuple(values))

    def _range(self, stack: str, selection: Selection) -> tuple[int, int]:
        """The first and the last layer that a curve runs over."""
        last = max(0, self.depths.get(stack, 1) - 1)
        first = min((a for a, _ in selection.layers), default=0)
        return first, max(first, min(last, max((b for _, b in selection.layers), default=last)))


def coefficients(weights: Sequence[BlockWeights]) -> Float[Tensor, "tensors models"]:
    """The weights of several models on the same tensors, as `Positions` takes them.

    Raises MergingError where the tensors differ.
    """
    if any(each.tensors != weights[0].tensors for each in weights):
        raise MergingError("block weights of different tensors cannot be put together", must_be="weights of one base")
    return torch.tensor([each.per_tensor() for each in weights], dtype=torch.float64).T
