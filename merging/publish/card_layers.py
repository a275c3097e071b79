"""One picture of a merge: what every layer got from every model, as an SVG that needs nothing else.

A row is a model, a column a layer, the strength of the colour the model's share (see merging/publish/shares.py). Under
them stands how far each layer moved. The picture brings its own ground and both palettes, so that it can be read on
light and dark pages alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from merging.publish.markup import visible, xml
from merging.publish.shares import EMBEDDING, HEAD, REST, Column, Shares, read_shares
from merging.publish.svg import LETTER, LIGHT_AND_DARK, box, shortened, text, text_width

PICTURE = "merging-layers.svg"
MARK = "<!-- merging:layers -->"
TITLE = "What each layer got from each model"

# All lengths are in pixels.
ROW, MARGIN, GAP = 22, 20, 8
HIGH = ROW - 2  # of a cell
LAYERS = 720  # what the layers together fill, if that makes their columns neither too wide nor too narrow
NARROWEST, WIDEST, OUTSIDE = 4.0, 34.0, 38.0
NARROWEST_NAMES, WIDEST_NAMES, WIDEST_HEAD = 96.0, 200.0, 120.0
BAR = 30
LEGEND_STEP = 22
LEAST_WIDTH = 620.0
NUMBERED = 24.0  # a cell this wide has its share written in
TOOLTIPS = 2000  # cells; above that they would be most of the file
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
# Shares that the strongest colour may stand for: where twenty models share a change, none has much of it.
FULL = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
DARK_ENOUGH = 0.8  # strength from which white letters are read better

_OUTSIDE_LABELS = {EMBEDDING: "embed", REST: "rest", HEAD: "head"}


@dataclass(frozen=True, slots=True)
class Frame:
    """Where everything stands: right end of the names, left edge and width of the columns, their end, the rows' top.

    `full` is the share that the strongest colour stands for.
    """

    names: float
    lefts: tuple[float, ...]
    widths: tuple[float, ...]
    end: float
    top: float
    full: float

    def middle(self, i: int) -> float:
        """The middle of a column."""
        return self.lefts[i] + self.widths[i] / 2

    def inner(self, i: int) -> float:
        """The width of a column without the line of ground that parts it from the next one."""
        return self.widths[i] - (1.0 if self.widths[i] > 6 else 0.4)

    def strength(self, share: float) -> float:
        """How strong the colour of a share is, in [0, 1]."""
        return min(1.0, abs(share) / self.full)


def draw_layers(
    ledger: Sequence[Mapping[str, Any]], names: Sequence[str], config: Mapping[str, Any] | None = None
) -> str:
    """The picture of a ledger; `names` are the models in the record's order, `config` is the merged model's."""
    return draw(read_shares(ledger, config), names)


def draw(shares: Shares, names: Sequence[str]) -> str:
    """The picture of shares that are already read."""
    frame = _frame(shares, names)
    foot = frame.top + ROW * len(shares.models) + GAP
    bars = list(_bars(shares, frame, foot))
    legend_top = foot + (BAR + GAP if bars else 0) + 12
    legend = list(_legend(shares, frame, legend_top))
    height = legend_top + LEGEND_STEP * max(1, len(legend)) + 6
    width = max(frame.end + MARGIN, LEAST_WIDTH)
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="t d">',
        MARK,
        f'<title id="t">{TITLE}</title>',
        f'<desc id="d">{in_words(shares, names)}</desc>',
        f"<style>{LIGHT_AND_DARK}</style>",
        '<defs><pattern id="copied" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<path class="hatch" d="M0 0V6" stroke-width="3"/></pattern></defs>',
        f'<rect class="ground" x=".5" y=".5" width="{width - 1:.0f}" height="{height - 1:.0f}" rx="6"/>',
        text(MARGIN, 28, TITLE, "title"),
        text(MARGIN, 45, _subtitle(shares), "small"),
        *_heads(shares.columns, frame),
        *(part for row, model in enumerate(shares.models) for part in _row(shares, names[model], model, row, frame)),
        *bars,
        *legend,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _subtitle(shares: Shares) -> str:
    if shares.of_changes:
        return "Share of the change to the base model that came from each model, layer by layer"
    return "Share of the merged weights that came from each model, layer by layer"


def in_words(shares: Shares, names: Sequence[str]) -> str:
    """The picture as text of XML, for those who do not see it."""
    return " ".join([f"{_subtitle(shares)}.", *(_row_in_words(shares, each, names[each]) for each in shares.models)])


def _row_in_words(shares: Shares, model: int, name: str) -> str:
    found = [(column.shares.get(model, 0.0), column) for column in shares.columns if column.shares]
    if not found:
        return f"{xml(name)}: nothing."
    low, high = min(found, key=lambda each: each[0]), max(found, key=lambda each: each[0])
    whole = f"{xml(name)}: {percent(shares.totals.get(model, 0.0))} of the whole"
    if low[0] == high[0]:
        return f"{whole}, the same everywhere."
    return f"{whole}, from {percent(low[0])} ({_called(low[1])}) to {percent(high[0])} ({_called(high[1])})."


def _called(column: Column) -> str:
    if column.label in _OUTSIDE_LABELS:
        return column.label
    return f"{xml(column.stack)} layer {column.label}".strip()


def percent(share: float) -> str:
    """A share as a reader wants it.

    >>> percent(-0.372)
    '−37 %'
    """
    return f"{round(100 * share)} %".replace("-", "−")


def _frame(shares: Shares, names: Sequence[str]) -> Frame:
    columns = shares.columns
    layers = sum(column.label not in _OUTSIDE_LABELS for column in columns)
    cell = min(WIDEST, max(NARROWEST, LAYERS / max(1, layers)))
    longest = max((text_width(shortened(visible(names[model]), WIDEST_NAMES)) for model in shares.models), default=0.0)
    edge = MARGIN + max(NARROWEST_NAMES, longest)
    lefts: list[float] = []
    widths: list[float] = []
    at = edge + 10
    for i, column in enumerate(columns):
        at += GAP if i and _group(columns[i - 1]) != _group(column) else 0
        lefts.append(at)
        widths.append(OUTSIDE if column.label in _OUTSIDE_LABELS else cell)
        at += widths[-1]
    most = max((abs(share) for column in columns for share in column.shares.values()), default=1.0)
    full = next((step for step in FULL if step >= most), 1.0)
    top = 96.0 if any(column.stack for column in columns) else 80.0
    return Frame(edge, tuple(lefts), tuple(widths), at, top, full)


def _group(column: Column) -> str:
    return column.label if column.label in _OUTSIDE_LABELS else f"layers of {column.stack}"


def _heads(columns: Sequence[Column], frame: Frame) -> Iterator[str]:
    """Names over what stands outside the layers, every so many layers' numbers, and the names of stacks."""
    inside = [frame.widths[i] for i, column in enumerate(columns) if column.label not in _OUTSIDE_LABELS]
    widest = 4 * LETTER + 4
    step = next((each for each in STEPS if inside and each * inside[0] >= min(widest, WIDEST)), STEPS[-1])
    for i, column in enumerate(columns):
        label = _OUTSIDE_LABELS.get(column.label)
        if label or int(column.label) % step == 0:
            yield text(frame.middle(i), frame.top - 6, label or column.label, "small", "middle")
        begins = i == 0 or _group(columns[i - 1]) != _group(column)
        if begins and column.stack and not label:
            yield text(frame.lefts[i], frame.top - 22, shortened(visible(column.stack), WIDEST_HEAD), "small")


def _row(shares: Shares, name: str, model: int, row: int, frame: Frame) -> Iterator[str]:
    y = frame.top + ROW * row
    yield text(frame.names, y + 15, shortened(visible(name), WIDEST_NAMES), "", "end")
    for _, group in groupby(range(len(shares.columns)), key=lambda i: _group(shares.columns[i])):
        inside = list(group)
        width = frame.lefts[inside[-1]] - frame.lefts[inside[0]] + frame.inner(inside[-1])
        yield box('class="room"', frame.lefts[inside[0]], y, width, HIGH)
    tips = len(shares.models) * len(shares.columns) <= TOOLTIPS
    for i, column in enumerate(shares.columns):
        cell = _cell(column, model, i, y, frame)
        tip = f"<title>{xml(name)}, {_called(column)}: {_told(column, model)}</title>" if tips else ""
        yield f"<g>{tip}{cell}</g>" if tip and cell else cell


def _told(column: Column, model: int) -> str:
    if column.kind == "still":
        return "no model differs from the base model"
    share = percent(column.shares.get(model, 0.0))
    return f"{share} copied unchanged" if column.kind == "copied" else share


def _cell(column: Column, model: int, i: int, y: float, frame: Frame) -> str:
    x, inner, share = frame.lefts[i], frame.inner(i), column.shares.get(model, 0.0)
    if column.kind == "still":
        return box('class="still"', x + inner * 0.3, y + 9, inner * 0.4, 2)
    if column.kind == "copied":
        return box('fill="url(#copied)"', x, y, inner, HIGH, abs(share)) if share else ""
    strength = frame.strength(share)
    numbered = ""
    if frame.widths[i] >= NUMBERED and share:
        kind = "cell on" if strength >= DARK_ENOUGH else "cell"
        numbered = text(x + inner / 2, y + 14, percent(share).removesuffix(" %"), kind, "middle")
    painted = box('class="for"' if share > 0 else 'class="against"', x, y, inner, HIGH, strength)
    return painted + numbered if share else ""


def _bars(shares: Shares, frame: Frame, top: float) -> Iterator[str]:
    """How far each column moved, relative to the one that moved most."""
    most = max((column.change or 0.0 for column in shares.columns), default=0.0)
    if not most:
        return
    yield text(frame.names, top + BAR - 6, "size of the change", "small", "end")
    for i, column in enumerate(shares.columns):
        high = BAR * (column.change or 0.0) / most
        yield box('class="bar"', frame.lefts[i], top + BAR - high, frame.inner(i), high)
    yield box('class="still"', frame.lefts[0], top + BAR, frame.end - frame.lefts[0], 1)


def _legend(shares: Shares, frame: Frame, top: float) -> Iterator[str]:
    """A line for everything that occurs in the picture."""
    for i, (paint, said) in enumerate(_occurring(shares, frame)):
        y = top + LEGEND_STEP * i
        strengths = [strength / 4 for strength in range(5)] if paint == 'class="for"' else [1.0]
        drawn = "".join(_swatch(paint, strength, MARGIN + 20 * k, y) for k, strength in enumerate(strengths))
        yield drawn + text(MARGIN + 20 * len(strengths) + 6, y + 12, said, "small")


def _occurring(shares: Shares, frame: Frame) -> Iterator[tuple[str, str]]:
    kinds = {column.kind for column in shares.columns}
    if any(share > 0 for column in shares.columns if column.kind == "merged" for share in column.shares.values()):
        yield 'class="for"', f"share, from 0 % to {percent(frame.full)}; numbers are percent"
    if shares.has_opposed:
        against = "the merge moved against the model's own change" if shares.of_changes else "a negative weight"
        yield 'class="against"', against
    if "copied" in kinds:
        yield 'fill="url(#copied)"', "copied unchanged from this model"
    if "still" in kinds:
        yield 'class="still"', "no model differs from the base model here"
    if any(column.change for column in shares.columns):
        yield 'class="bar"', "root mean square of the change of an entry, relative to the largest"


def _swatch(paint: str, strength: float, x: float, y: float) -> str:
    room = box('class="room"', x, y, 18, 16)
    if paint == 'class="still"':
        return room + box(paint, x + 5, y + 7, 8, 2)
    return room + (box(paint, x, y, 18, 16, strength) if strength else "")
