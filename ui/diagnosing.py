"""A diagnosis as rows for charts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from merging import Diagnosis, Table, part_of
from ui import charts

# Rows that a browser shows without effort.
MOST_ROWS = 5_000
OUTSIDE = "outside"

Row = dict[str, Any]


def parts(found: Diagnosis) -> list[str]:
    """The parts that the tensors belong to, in order of appearance."""
    return list(dict.fromkeys(part_of(tensor) for tensor in found.tensors))


def tensors_of(found: Diagnosis, part: str) -> list[str]:
    """Names of the tensors of a part."""
    return [tensor.name for tensor in found.tensors if part_of(tensor) == part]


def square(table: Table, quantity: str, names: Sequence[str]) -> list[Row]:
    """A number of each pair as a full square, 1 on the diagonal."""
    value = {(row.i, row.j): row.value for row in table.where(quantity=quantity)}
    rows = []
    for a in names:
        for b in names:
            found = 1.0 if a == b else value.get((a, b), value.get((b, a)))
            rows.append({"a": a, "b": b, "value": found})
    return rows


def by_layer(table: Table, names: Iterable[str]) -> list[Row]:
    """Rows of numbered layers, of models alone."""
    wanted = set(names)
    return [
        {"stack": row.stack or "", "layer": row.layer, "model": row.i, "value": row.value}
        for row in table
        if row.layer is not None and row.i in wanted and row.j is None
    ]


def layer_by_part(found: Diagnosis, quantity: str) -> list[Row]:
    """A number of all models together for each layer and part."""
    rows = []
    for part in parts(found):
        table = found.where(tensors_of(found, part)).table(by="layer").where(quantity=quantity, i=None)
        rows += [{"layer": _spelled(row.stack, row.layer), "part": part, "value": row.value} for row in table]
    return sorted(rows, key=lambda row: (row["layer"] == OUTSIDE, _order(row["layer"])))


def curves(found: Iterable[tuple[str, Any, Any]], points: int = 120) -> list[Row]:
    """Curves of density and share of the squared norm, thinned to what a chart can show."""
    rows = []
    for name, densities, shares in found:
        pairs = list(zip(densities.tolist(), shares.tolist(), strict=True))
        step = max(1, len(pairs) // points)
        rows += [{"model": name, "density": x, "norm": max(0.0, y) ** 0.5} for x, y in [*pairs[::step], pairs[-1]]]
    return rows


def density_chart(rows: Sequence[Row], names: Sequence[str]) -> Any:
    """Norm kept over entries kept; the paper's density of TIES is marked."""
    lines = (
        alt.Chart(charts.data(rows), height=320)
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("density:Q", title="share of entries kept", scale=alt.Scale(domain=[0, 1]), axis={"format": "%"}),
            y=alt.Y("norm:Q", title="share of the norm kept", scale=alt.Scale(domain=[0, 1]), axis={"format": "%"}),
            color=alt.Color("model:N", scale=charts.colours(names), title=None, legend=alt.Legend(orient="top")),
            tooltip=["model:N", alt.Tooltip("density:Q", format=".1%"), alt.Tooltip("norm:Q", format=".1%")],
        )
    )
    mark = (
        alt.Chart(charts.data([{"density": 0.2}])).mark_rule(strokeDash=[4, 4], color=charts.BASE).encode(x="density:Q")
    )
    return lines + mark


def rank_chart(rows: Sequence[Row], names: Sequence[str]) -> Any:
    """Effective rank of every matrix, over the layers."""
    return (
        alt.Chart(charts.data(rows), height=280)
        .mark_circle(size=44, opacity=0.75)
        .encode(
            x=alt.X("layer:Q", title="layer", axis=alt.Axis(format="d", tickMinStep=1)),
            y=alt.Y("value:Q", title="effective rank"),
            color=alt.Color("model:N", scale=charts.colours(names), title=None, legend=alt.Legend(orient="top")),
            tooltip=["tensor:N", "model:N", alt.Tooltip("value:Q", format=".2f")],
        )
    )


def wide(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """One row for each tensor and model, one column for each quantity."""
    found: dict[tuple[Any, Any], Row] = {}
    for row in rows:
        key = (row["tensor"], row["model"])
        cells = found.setdefault(key, {"tensor": row["tensor"], "layer": row["layer"], "model": row["model"]})
        cells[row["quantity"].replace("_", " ")] = row["value"]
    return list(found.values())


def _spelled(stack: str | None, layer: int | None) -> str:
    return OUTSIDE if layer is None else f"{stack} {layer}".strip()


def _order(layer: str) -> tuple[str, int]:
    stack, _, number = layer.rpartition(" ")
    return (stack, int(number)) if number.isdigit() else (stack, 0)
