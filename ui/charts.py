"""What the charts have in common: colours that survive colour blindness, axes with units, a size that fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import altair as alt

# Okabe and Ito's, as in .streamlit/config.toml; the merge is always drawn in the same one.
CATEGORIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8C8C8C", "#B8A800")
MERGE = "#D55E00"
BASE = "#8C8C8C"
# From dark to light, and from one side through neutral to the other; both are ordered in grey as well.
SEQUENCE: Final = "viridis"
DIVERGING: Final = "blueorange"

Rows = Sequence[Mapping[str, Any]]


def data(rows: Rows) -> alt.InlineData:
    """Rows as a chart takes them; no table library in between."""
    return alt.InlineData(values=[dict(row) for row in rows])


def colours(names: Sequence[str], merge: str = "merge", base: str = "base") -> alt.Scale:
    """One colour per name; the merge and the base keep theirs."""
    others = iter(CATEGORIES * (1 + len(names) // len(CATEGORIES)))
    fixed = {merge: MERGE, base: BASE}
    return alt.Scale(domain=list(names), range=[fixed[name] if name in fixed else next(others) for name in names])


def lines(
    rows: Rows, x: str, y: str, series: str, names: Sequence[str], titles: tuple[str, str], height: int = 240
) -> Any:
    """Curves over an ordered axis, one colour per series, values on hover."""
    return (
        alt.Chart(data(rows), height=height)
        .mark_line(point={"size": 28}, strokeWidth=2)
        .encode(
            x=alt.X(f"{x}:Q", title=titles[0], axis=alt.Axis(format="d", tickMinStep=1)),
            y=alt.Y(f"{y}:Q", title=titles[1]),
            color=alt.Color(
                f"{series}:N", scale=colours(names), title=None, legend=alt.Legend(orient="top", columns=4)
            ),
            tooltip=[f"{series}:N", f"{x}:Q", alt.Tooltip(f"{y}:Q", format=".4g")],
        )
    )


def heat(
    rows: Rows,
    x: str,
    y: str,
    value: str,
    titles: tuple[str, str, str],
    *,
    domain: tuple[float, float] | None = None,
    diverging: bool = False,
    written: bool = True,
    side: int = 34,
) -> Any:
    """A heat map of named rows and columns, the numbers written into it; `diverging` is blue above and orange below."""
    scheme = {"scheme": DIVERGING, "reverse": True} if diverging else {"scheme": SEQUENCE}
    scale = {**scheme, **({"domain": list(domain)} if domain else {})}
    columns, lines_ = (list(dict.fromkeys(row[key] for row in rows)) for key in (x, y))
    chart = alt.Chart(data(rows), height=alt.Step(side), width="container").encode(
        x=alt.X(f"{x}:N", title=titles[0], sort=columns, axis=alt.Axis(labelAngle=-40, labelLimit=140)),
        y=alt.Y(f"{y}:N", title=titles[1], sort=lines_, axis=alt.Axis(labelLimit=180)),
    )
    boxes = chart.mark_rect().encode(
        color=alt.Color(f"{value}:Q", scale=scale, title=titles[2], legend=alt.Legend(gradientLength=120)),
        tooltip=[f"{x}:N", f"{y}:N", alt.Tooltip(f"{value}:Q", format=".4g")],
    )
    if not written:
        return boxes
    low, high = domain or _range(rows, value)
    return boxes + chart.mark_text(fontSize=11).encode(
        text=alt.Text(f"{value}:Q", format=".2f"), color=_readable(value, low, high, diverging)
    )


def _range(rows: Rows, value: str) -> tuple[float, float]:
    found = [row[value] for row in rows if row[value] is not None]
    return (min(found), max(found)) if found else (0.0, 1.0)


def _readable(value: str, low: float, high: float, diverging: bool) -> Any:
    """Black or white, whichever is legible on the colour of the box."""
    middle = (low + high) / 2
    reach = 0.32 * (high - low)
    dark = f"abs(datum['{value}'] - {middle}) > {reach}" if diverging else f"datum['{value}'] < {middle}"
    return alt.condition(dark, alt.value("white"), alt.value("black"))
