"""Charts of a grid of merges: a heat map of the mean score, and two tasks against each other with the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ui import charts
from ui.explore.figures import FLAT_LEGEND, MEAN_TITLE, Row, Spec, layer

CELL = "cell"
# A click on a point or a box selects it.
_CLICKS = [{"name": CELL, "select": {"type": "point", "fields": ["point"]}}]
# What lies over the boxes lets clicks through.
_DEAF = {"interactive": False}
_HERE = {
    "type": "point",
    "shape": "diamond",
    "filled": True,
    "size": 170,
    "color": charts.MERGE,
    "stroke": "white",
    "opacity": 1,
    **_DEAF,
}
# More boxes than these are too small for a number.
MOST_WRITTEN = 100


def heat_figure(rows: Sequence[Row], labels: tuple[str, str], here: Mapping[str, float] | None) -> Spec:
    """Boxes by the two values, coloured by the mean; a diamond where the sliders are, a frame around the best."""
    x, y = (
        {"field": field, "type": "quantitative", "title": label, "scale": {"zero": False, "nice": False}}
        for field, label in zip(("a1", "b1"), labels, strict=True)
    )
    box = {"x": x, "x2": {"field": "a2"}, "y": y, "y2": {"field": "b2"}}
    middle = {"x": {**x, "field": "a"}, "y": {**y, "field": "b"}}
    colour = {
        "field": "mean",
        "type": "quantitative",
        "title": MEAN_TITLE,
        "scale": {"scheme": charts.SEQUENCE},
        "legend": FLAT_LEGEND,
    }
    tells = [
        {"field": "a", "type": "quantitative", "title": labels[0]},
        {"field": "b", "type": "quantitative", "title": labels[1]},
        {"field": "mean", "type": "quantitative", "format": ".1%", "title": MEAN_TITLE},
    ]
    boxes = layer(rows, {"type": "rect", "cursor": "pointer"}, {**box, "color": colour, "tooltip": tells})
    framed = {"type": "rect", "filled": False, "strokeWidth": 3, "stroke": charts.MERGE, **_DEAF}
    top = max(rows, key=lambda row: row["mean"], default=None)
    return {
        "height": 330,
        "layer": [
            {**boxes, "params": _CLICKS},
            _written(rows, middle),
            layer([top] if top else [], framed, box),
            layer([dict(here)] if here else [], _HERE, middle),
        ],
    }


def _written(rows: Sequence[Row], middle: Spec) -> Spec:
    """The numbers in the boxes, legible on their colours."""
    means = [row["mean"] for row in rows] or [0.0]
    light = min(means) + 0.62 * (max(means) - min(means))
    colour = {"condition": {"test": f"datum.mean > {light}", "value": "black"}, "value": "white"}
    text = {"field": "mean", "type": "quantitative", "format": ".0%"}
    shown = rows if len(rows) <= MOST_WRITTEN else []
    return layer(shown, {"type": "text", "fontSize": 11, "dy": 1, **_DEAF}, {**middle, "text": text, "color": colour})


def front_figure(rows: Sequence[Row], tasks: tuple[str, str], here: Mapping[str, float] | None) -> Spec:
    """Every merge by its scores in two tasks; those that no other beats in both are joined."""
    x, y = (
        {
            "field": field,
            "type": "quantitative",
            "title": f"{task}: read right",
            "scale": {"zero": False},
            "axis": {"format": "%"},
        }
        for field, task in zip("ab", tasks, strict=True)
    )
    colour = {
        "field": "front",
        "type": "nominal",
        "title": None,
        "scale": {"domain": [True, False], "range": [charts.CATEGORIES[0], charts.BASE]},
        "legend": {"orient": "top", "labelExpr": "datum.value ? 'Pareto front' : 'beaten'"},
    }
    shares = zip(("a", "b", "mean"), (*tasks, MEAN_TITLE), strict=True)
    tells = [
        {"field": "says", "type": "nominal", "title": "merge"},
        *({"field": name, "type": "quantitative", "format": ".1%", "title": title} for name, title in shares),
    ]
    kept = sorted((row for row in rows if row["front"]), key=lambda row: (row["a"], -row["b"]))
    both = {"x": x, "y": y}
    steps = {"type": "line", "interpolate": "step-before", "strokeWidth": 2, "color": charts.CATEGORIES[0]}
    dots = {"type": "point", "filled": True, "size": 90, "opacity": 0.9, "cursor": "pointer"}
    return {
        "height": 330,
        "layer": [
            layer(kept, steps, {**both, "order": {"field": "a", "type": "quantitative"}}),
            {**layer(rows, dots, {**both, "color": colour, "tooltip": tells}), "params": _CLICKS},
            layer([dict(here)] if here else [], _HERE, both),
        ],
    }
