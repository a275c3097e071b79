"""Block weights as a line of text, and presets by name.

A line is made of items with semicolons between; what comes later is laid over what comes before.

    0.5                        every block
    0,0.2,0.5,1                along the layers, as a recipe's gradient; outside the layers the first value
    cosine(0,1)                a named curve, see `Curve`
    attention=0.3; mlp=0.7     parts: attention, mlp, norm, embedding, head, other
    8-15 attention=0,1         layers; a curve runs over the layers that are named
    encoder 0-3=0.5            a stack, where there are several; `shared` is what belongs to none
    outer norm=1               what stands outside the layers
    /o_proj|down_proj/=0.8     tensors by a regular expression in their names, `\\/` for a slash
    mlp*=0.5; head+=0.1        multiplied, added
    head=plain                 as if nothing were said of it

Words of one kind are alternatives, words of different kinds narrow each other. An item that selects nothing is refused,
unless its selection ends in a question mark.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, get_args

from merging.analysis.blocks import BlockWeights, By, Part, Selection, stack_word
from merging.analysis.curves import read_curve
from merging.errors import MergingError, Problems, nearest, raise_all

if TYPE_CHECKING:
    from merging.analysis.diagnosis import Placed

PLAIN = "plain"
BLOCK_PRESETS: Mapping[str, str] = {
    "flat": "1",
    "early": "1,1,0,0; outer head norm?=0",
    "middle": "0,1,1,0",
    "late": "0,0,1,1; outer head norm?=1",
    "ramp_up": "0,1; outer head norm?=1",
    "ramp_down": "1,0; outer head norm?=0",
    "hill": "bell(0,1)",
    "u_shape": "1,0.25,0,0.25,1",
    "attention_only": "0; attention=1",
    "mlp_only": "0; mlp=1",
}
_REGEX = r"/((?:\\.|[^/\\])*)/"
_ITEM = re.compile(rf"((?:{_REGEX}|[^;/])*)(;|\Z)")
_PARTS = re.compile(rf"\s*((?:{_REGEX}|[^=/])*?)\s*([+*]?=)\s*([^=/]*)")
_WORD = re.compile(rf"{_REGEX}|\S+")
_RANGE = re.compile(r"(\d+)(?:(-)(\d*))?")


def read_block_weights(text: str, tensors: Sequence[Placed], *, plain: float = 1.0, by: By = "part") -> BlockWeights:
    """The block weights that a line of text says of these tensors.

    Raises MergingError for what cannot be read or selects nothing, all of it at once.
    """
    weights = BlockWeights.of(tensors, plain, by)
    problems: list[MergingError] = []
    for item in _items(text):
        try:
            weights = _applied(weights, item)
        except Problems as several:
            problems += several.problems
        except MergingError as problem:
            problems.append(problem)
    raise_all(problems)
    return weights


def preset(name: str, tensors: Sequence[Placed], *, plain: float = 1.0, by: By = "part") -> BlockWeights:
    """The block weights of a preset; those of `BLOCK_PRESETS` are shares of 1, to be multiplied.

    Raises MergingError for a name that there is no preset of, or a part that the model has none of.
    """
    if name not in BLOCK_PRESETS:
        close = nearest(name, BLOCK_PRESETS, count=1)
        raise MergingError(
            f"no preset is called {name!r}",
            must_be="one of " + ", ".join(BLOCK_PRESETS),
            fix=f"did you mean {close[0]!r}?" if close else None,
        )
    return read_block_weights(BLOCK_PRESETS[name], tensors, plain=plain, by=by)


def read_selection(text: str, weights: BlockWeights) -> Selection:
    """A selection as text, such as "8-15 attention".

    Raises MergingError for a word that names nothing of this model.
    """
    stacks = {stack_word(block.stack): block.stack for block in weights.blocks}
    found: dict[str, list[object]] = {"stacks": [], "layers": [], "parts": []}
    pattern, outer = None, False
    for word in _WORD.finditer(text):
        span = _RANGE.fullmatch(word[0])
        if word[1] is not None:
            pattern = word[1] if pattern is None else f"(?:{pattern})|(?:{word[1]})"
        elif span:
            first = int(span[1])
            last = int(span[3]) if span[3] else max(weights.depths.values(), default=0) if span[2] else first
            found["layers"].append((first, last))
        elif word[0] == "outer":
            outer = True
        elif word[0] in get_args(Part):
            found["parts"].append(word[0])
        elif word[0] in stacks:
            found["stacks"].append(stacks[word[0]])
        else:
            raise _unknown(word[0], ["outer", *get_args(Part), *(stacks if len(stacks) > 1 else ())])
    return Selection(outer=outer, pattern=pattern, **{kind: tuple(each) for kind, each in found.items()})  # type: ignore[arg-type]


def _items(text: str) -> Iterator[str]:
    at, more = 0, True
    while more:
        found = _ITEM.match(text, at)
        if found is None:
            raise MergingError(
                f"a slash in {text[at:]!r} is not closed", must_be="/regular expression/, `\\/` for a slash"
            )
        if found[1].strip():
            yield found[1]
        at, more = found.end(), found[3] == ";"


def _applied(weights: BlockWeights, item: str) -> BlockWeights:
    parts = _PARTS.fullmatch(item)
    words, sign, value = (parts[1], parts[3], parts[4]) if parts else ("", "=", item)
    optional = words.endswith("?")
    selection = read_selection(words.removesuffix("?"), weights)
    curve = None if value.strip() == PLAIN and sign == "=" else read_curve(value)
    if not weights.select(selection).blocks:
        if optional:
            return weights
        raise MergingError(f"{words!r} selects no block", must_be="words that one block or more answers to")
    if curve is None:
        return weights.set(selection, None)
    return {"=": weights.set, "+=": weights.add, "*=": weights.multiply}[sign](selection, curve)


def _unknown(word: str, known: Collection[str]) -> MergingError:
    close = nearest(word, known, count=1)
    return MergingError(
        f"{word!r} selects nothing",
        must_be="a layer as 3, layers as 0-7 or 8-, /a regular expression/, or one of " + ", ".join(known),
        fix=f"did you mean {close[0]!r}?" if close else None,
    )
