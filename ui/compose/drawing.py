"""Curves over the layers that are drawn by hand: what the plot is told, and what a stroke on it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st

from merging import BlockWeights, MergingError
from ui import charts
from ui.compose.blocks import curves, places

KEY, HEARD = "compose_block_curves", "compose_block_heard"
_HTML, _CSS, _JS = (
    Path(__file__).with_name(f"curve.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
)
# Mounted without a network: all of it is sent with the page.
_plot = st.components.v2.component("merging_curves", html=_HTML, css=_CSS, js=_JS)


class Stroke(NamedTuple):
    """What was drawn: values of layers of parts, the how manieth stroke it is, and for which target."""

    target: str
    number: int
    cells: Mapping[tuple[str, int], float]


def show_curves(
    weights: BlockWeights,
    parameter: str,
    target: str,
    bounds: tuple[float | None, float | None],
    drawn: Callable[[Stroke], None],
) -> None:
    """The plot; `drawn` is called with every stroke of this target."""

    def heard() -> None:
        stroke = read_stroke(st.session_state[KEY].drawn)
        if stroke is not None:
            st.session_state[HEARD] = max(stroke.number, st.session_state.get(HEARD, 0))
            if stroke.target == target:
                drawn(stroke)

    data = plot_data(weights, parameter, target, bounds) | {"heard": st.session_state.get(HEARD, 0)}
    if data["parts"]:
        _plot(key=KEY, data=data, on_drawn_change=heard)


def plot_data(
    weights: BlockWeights, parameter: str, target: str, bounds: tuple[float | None, float | None]
) -> dict[str, Any]:
    """The curves of all parts with their colours, and what their values may be."""
    found: dict[str, list[list[float]]] = {}
    for point in curves(weights):
        found.setdefault(point["part"], []).append([point["layer"], point["value"]])
    palette = charts.CATEGORIES
    parts = [
        {"name": name, "colour": palette[i % len(palette)], "values": values}
        for i, (name, values) in enumerate(found.items())
    ]
    return {"parts": parts, "parameter": parameter, "target": target, "minimum": bounds[0], "maximum": bounds[1]}


def read_stroke(sent: Any) -> Stroke | None:
    """What a browser has sent, None where it is no stroke.

    >>> read_stroke({"target": "weight", "number": 1, "cells": [["mlp", 0, 0.5]]}).cells
    {('mlp', 0): 0.5}
    """
    try:
        cells = {(str(part), int(layer)): float(value) for part, layer, value in sent["cells"]}
        stroke = Stroke(str(sent["target"]), int(sent["number"]), cells)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return stroke if all(map(isfinite, cells.values())) else None


def stroked(weights: BlockWeights, stroke: Stroke) -> BlockWeights:
    """The weights after a stroke. Raises MergingError where it was drawn for other layers or parts."""
    found = places(weights)
    if strange := set(stroke.cells) - set(found):
        part, layer = min(strange)
        raise MergingError(f"layer {layer} has no {part}", must_be="a layer and a part of this model")
    values = tuple(
        value if place is None else stroke.cells.get(place, value)
        for place, value in zip(found, weights.values, strict=True)
    )
    return BlockWeights(weights.tensors, values, weights.plain, weights.by)
