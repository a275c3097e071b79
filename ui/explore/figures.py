"""The charts of the page as Vega-Lite: plain dictionaries, since checking a chart against its schema takes longer than
everything else that a slider moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ui import charts
from ui.explore.geometry import Frame

Row = dict[str, Any]
Spec = dict[str, Any]

MEAN_TITLE, OWN = "mean score", "own"
# Above the picture, where it takes no width from it.
FLAT_LEGEND = {"orient": "top", "direction": "horizontal", "format": "%", "gradientLength": 150, "tickCount": 4}


def colour_of(names: Sequence[str]) -> dict[str, str]:
    """The colour of each name, in all charts of the page."""
    scale = charts.colours(names).to_dict()
    return dict(zip(scale["domain"], scale["range"], strict=True))


def nominal(names: Sequence[str], title: str | None = None, **legend: Any) -> Spec:
    """A colour for each name in `name`, with a legend above."""
    scale = charts.colours(names).to_dict()
    return {
        "field": "name",
        "type": "nominal",
        "title": title,
        "scale": {"domain": scale["domain"], "range": scale["range"]},
        "legend": {"orient": "top", "columns": 4, "symbolLimit": 12, **legend},
    }


def scores_figure(rows: Sequence[Row], tasks: Sequence[str]) -> Spec:
    """A merge beside base and own fine-tune: rows of task, name (base, merge, own), value, low and high."""
    names = ["base", "merge", OWN]
    colour = nominal(names)
    colour["scale"]["range"] = [charts.BASE, charts.MERGE, charts.CATEGORIES[4]]
    y = {"field": "task", "type": "nominal", "sort": list(tasks), "title": None, "axis": {"labelLimit": 130}}
    x = {
        "field": "value",
        "type": "quantitative",
        "title": "digits read right",
        "scale": {"domain": [0, 1]},
        "axis": {"format": "%"},
    }
    tells = [
        {"field": "task", "type": "nominal"},
        {"field": "name", "type": "nominal", "title": "model"},
        {"field": "value", "type": "quantitative", "format": ".1%", "title": "read right"},
        {"field": "error", "type": "quantitative", "format": ".1%", "title": "standard error"},
    ]
    merge = {"filter": "datum.name == 'merge'"}
    bars = {"mark": {"type": "bar", "height": {"band": 0.62}}, "transform": [merge]}
    errors = {
        "mark": {"type": "rule", "strokeWidth": 2},
        "transform": [merge],
        "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y, "color": {"value": "#7A3300"}},
    }
    marks = {
        "mark": {"type": "tick", "thickness": 4, "size": 24},
        "transform": [{"filter": "datum.name != 'merge'"}],
    }
    shown = {"x": x, "y": y, "color": colour, "tooltip": tells}
    return {
        "data": {"values": list(rows)},
        "height": {"step": 32},
        "layer": [{**bars, "encoding": shown}, {**marks, "encoding": shown}, errors],
    }


def layer_figure(rows: Sequence[Row], names: Sequence[str], order: Sequence[str], title: str, height: int) -> Spec:
    """Curves over the layers: rows of place, name and value, one colour for each name."""
    y: Spec = {"field": "value", "type": "quantitative", "title": title, "scale": {"zero": True}}
    colour = nominal(names, columns=3, labelLimit=75, columnPadding=6)
    if len(names) == 1:
        colour["legend"] = None
    return {
        "data": {"values": list(rows)},
        "height": height,
        "mark": {"type": "line", "point": {"size": 30}, "strokeWidth": 2},
        "encoding": {
            "x": {
                "field": "place",
                "type": "ordinal",
                "sort": list(order),
                "title": "layer",
                "axis": {"labelAngle": 0, "labelOverlap": True},
            },
            "y": y,
            "color": colour,
            "tooltip": [
                {"field": "name", "type": "nominal", "title": "model"},
                {"field": "place", "type": "nominal", "title": "layer"},
                {"field": "value", "type": "quantitative", "format": ".4g", "title": title},
            ],
        },
    }


def square_figure(rows: Sequence[Row], names: Sequence[str]) -> Spec:
    """Cosines of all pairs: rows of a, b and value, the numbers written into the boxes."""
    order = list(names)
    axes = {
        "x": {
            "field": "a",
            "type": "nominal",
            "sort": order,
            "title": None,
            "axis": {"labelAngle": -40, "labelOverlap": False},
        },
        "y": {"field": "b", "type": "nominal", "sort": order, "title": None, "axis": {"labelLimit": 130}},
    }
    colour = {
        "field": "value",
        "type": "quantitative",
        "title": "cosine",
        "scale": {"scheme": charts.DIVERGING, "domain": [-1, 1], "reverse": True},
        "legend": None,
    }
    tells = [
        {"field": "a", "type": "nominal", "title": "of"},
        {"field": "b", "type": "nominal", "title": "and"},
        {"field": "value", "type": "quantitative", "format": ".4f", "title": "cosine"},
    ]
    white = {"condition": {"test": "abs(datum.value) > 0.65", "value": "white"}, "value": "black"}
    text = {"field": "value", "type": "quantitative", "format": ".2f"}
    return {
        "data": {"values": list(rows)},
        "height": {"step": 32},
        "encoding": axes,
        "layer": [
            {"mark": "rect", "encoding": {"color": colour, "tooltip": tells}},
            {"mark": {"type": "text", "fontSize": 10}, "encoding": {"text": text, "color": white}},
        ],
    }


def map_figure(points: Mapping[str, Sequence[Row]], frame: Frame) -> Spec:
    """The plane: `models` (x, y, name, kind), `measured` (x, y, mean, says), `lines` (x, y, x2, y2, mean), `trail`.

    Both axes have one scale, whatever the width of the picture: distances in it are distances of weights.
    """
    both = {field: _true(field, frame) for field in "xy"}
    heat = _means([row["mean"] for name in ("measured", "lines") for row in points.get(name, ())])
    mean = {"field": "mean", "type": "quantitative", "format": ".1%", "title": MEAN_TITLE}
    says = {"field": "says", "type": "nominal", "title": "merge"}
    line = {"type": "rule", "strokeWidth": 1.6, "opacity": 0.9}
    ends = {"x2": {"field": "x2"}, "y2": {"field": "y2"}}
    dot = {"type": "circle", "size": 70, "opacity": 0.9}
    way = {"type": "line", "strokeWidth": 1.5, "strokeDash": [4, 3], "color": charts.BASE}
    order = {"field": "step", "type": "quantitative"}
    return {
        "height": 400,
        "layer": [
            layer(points.get("lines", ()), line, {**both, **ends, "color": heat, "tooltip": [mean]}),
            layer(points.get("measured", ()), dot, {**both, "color": heat, "tooltip": [says, mean]}),
            layer(points.get("trail", ()), way, {**both, "order": order}),
            *_model_layers(points.get("models", ()), both),
        ],
    }


def _means(means: Sequence[float]) -> Spec:
    """Colours of what was measured."""
    ends = [min(means), max(means)] if means else [0, 1]
    return {
        "field": "mean",
        "type": "quantitative",
        "title": MEAN_TITLE,
        "scale": {"scheme": charts.SEQUENCE, "domain": ends},
        "legend": FLAT_LEGEND if means else None,
    }


def _model_layers(rows: Sequence[Row], both: Spec) -> list[Spec]:
    """Models as points with their names."""
    own = {"field": "colour", "type": "nominal", "scale": None}
    shape = {"field": "shape", "type": "nominal", "scale": None}
    tells = [
        {"field": "name", "type": "nominal", "title": "model"},
        {"field": "off", "type": "quantitative", "format": ".3g", "title": "distance from the plane"},
    ]
    point = {"type": "point", "filled": True, "size": 150, "opacity": 1}
    label = {"type": "text", "dy": {"expr": "datum.below ? 16 : -13"}, "fontSize": 12, "fontWeight": 600}
    return [
        layer(rows, point, {**both, "color": own, "shape": shape, "tooltip": tells}),
        layer(rows, label, {**both, "text": {"field": "name", "type": "nominal"}, "color": own}),
    ]


def _true(field: str, frame: Frame) -> Spec:
    """An axis in which a pixel is as long as in the other, wide enough for all that is drawn."""
    middle = frame.x if field == "x" else frame.y
    side = "width" if field == "x" else "height"
    half = f"max({frame.width} / width, {frame.height} / height) * {side} / 2"
    ends = {"domainMin": {"expr": f"{middle} - {half}"}, "domainMax": {"expr": f"{middle} + {half}"}}
    axis = {"tickCount": 5, "grid": True, "gridOpacity": 0.35}
    scale = {**ends, "nice": False, "zero": False}
    return {"field": field, "type": "quantitative", "title": "distance", "scale": scale, "axis": axis}


def layer(rows: Sequence[Row], mark: Spec, encoding: Spec) -> Spec:
    """One layer of a chart, with rows of its own."""
    return {"data": {"values": list(rows)}, "mark": mark, "encoding": encoding}
