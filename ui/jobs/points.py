"""What a sweep has found: its points as a table, as curves over one axis or a heat map over two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import streamlit as st

from merging import Job, pareto
from ui import boxes, charts
from ui.jobs.status import ACTIVE
from ui.jobs.tensors import csv_text

Row = dict[str, Any]

MEAN = "mean"
POLL_SECONDS = 2.0


def axes_of(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was varied."""
    return list(dict.fromkeys(name for point in points for name in point.get("values") or {}))


def tasks_of(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was scored."""
    return list(dict.fromkeys(name for point in points for name in point.get("scores") or {}))


def score_of(point: Mapping[str, Any], task: str) -> float | None:
    """A point's mean or its score in a task; None where it failed."""
    value = point.get("mean") if task == MEAN else (point.get("scores") or {}).get(task)
    return float(value) if isinstance(value, int | float) else None


def point_rows(points: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The points as lines, the best mean first, those that failed last; those that no other beats are marked."""
    front = set(pareto([SimpleNamespace(scores=point.get("scores") or {}) for point in points]))  # type: ignore[misc]
    rows = []
    for i, point in enumerate(points):
        named = {f"{axis} ": value for axis, value in (point.get("values") or {}).items()}
        scores = {task: score_of(point, task) for task in tasks_of(points)}
        row = {"point": point.get("point"), **named, MEAN: score_of(point, MEAN), **scores}
        row |= {"unbeaten": i in front, "seconds": point.get("seconds")}
        row |= {"error": point.get("error") or ""} if any(each.get("error") for each in points) else {}
        rows.append(row)
    return sorted(rows, key=lambda row: -row[MEAN] if row[MEAN] is not None else float("inf"))


def cells(points: Sequence[Mapping[str, Any]], axes: Sequence[str], task: str) -> list[Row]:
    """The grid of two axes as boxes; those not scored are left out, the second axis grows upwards."""
    found = [
        {"a": point["values"][axes[0]], "b": point["values"][axes[1]], "score": score_of(point, task)}
        for point in points
        if all(axis in (point.get("values") or {}) for axis in axes)
    ]
    return [row for row in found if row["score"] is not None]


def heat_figure(rows: Sequence[Row], axes: Sequence[str], task: str) -> Row:
    """Scores over two axes, the numbers written into the boxes, as Vega-Lite."""
    values = [row["score"] for row in rows]
    middle = (min(values) + max(values)) / 2
    x = {"field": "a", "type": "ordinal", "title": axes[0], "axis": {"labelAngle": 0}}
    y = {"field": "b", "type": "ordinal", "title": axes[1], "sort": "descending"}
    title = f"score: {task}"
    colour = {"field": "score", "type": "quantitative", "title": title, "scale": {"scheme": charts.SEQUENCE}}
    legible = {"condition": {"test": f"datum.score < {middle}", "value": "white"}, "value": "black"}
    tells = [
        {"field": "a", "title": axes[0]},
        {"field": "b", "title": axes[1]},
        {"field": "score", "type": "quantitative", "format": ".4f", "title": title},
    ]
    return {
        "data": {"values": list(rows)},
        "height": {"step": 38},
        "encoding": {"x": x, "y": y},
        "layer": [
            {"mark": "rect", "encoding": {"color": colour, "tooltip": tells}},
            {
                "mark": {"type": "text", "fontSize": 11},
                "encoding": {"text": {"field": "score", "type": "quantitative", "format": ".3f"}, "color": legible},
            },
        ],
    }


def curve_rows(points: Sequence[Mapping[str, Any]], axis: str) -> list[Row]:
    """Scores over one axis of numbers, a curve for each task and one for their mean."""
    tasks = tasks_of(points)
    shown = [MEAN, *tasks] if len(tasks) != 1 else tasks
    return [
        {"value": point["values"][axis], "task": task, "score": score}
        for point in points
        for task in shown
        if isinstance(point["values"].get(axis), int | float) and (score := score_of(point, task)) is not None
    ]


def curves_figure(rows: Sequence[Row], axis: str) -> Row:
    """Curves of scores over an axis, as Vega-Lite."""
    names = list(dict.fromkeys(row["task"] for row in rows))
    scale = charts.colours(names, merge=MEAN).to_dict()
    return {
        "data": {"values": list(rows)},
        "height": 320,
        "mark": {"type": "line", "point": {"size": 30}, "strokeWidth": 2},
        "encoding": {
            "x": {"field": "value", "type": "quantitative", "title": axis, "axis": {"tickCount": 8}},
            "y": {"field": "score", "type": "quantitative", "title": "score", "scale": {"zero": False}},
            "color": {
                "field": "task",
                "type": "nominal",
                "title": None,
                "scale": {"domain": scale["domain"], "range": scale["range"]},
                "legend": {"orient": "top", "columns": 4},
            },
            "tooltip": [
                {"field": "task", "type": "nominal"},
                {"field": "value", "type": "quantitative", "title": axis},
                {"field": "score", "type": "quantitative", "format": ".4f"},
            ],
        },
    }


def show_points(job: Job) -> None:
    """Figure and table; points come in while the sweep is at work."""
    st.fragment(_points, run_every=POLL_SECONDS if job.state in ACTIVE else None)(job)


def _points(job: Job) -> None:
    points = job.points()
    if not points:
        boxes.empty("No point is scored yet." if job.state in ACTIVE else "No point was scored.")
        return
    _figure(points)
    rows = point_rows(points)
    score = st.column_config.NumberColumn(format="%.4f")
    st.dataframe(
        rows,
        hide_index=True,
        placeholder="–",
        key="jobs_points",
        column_config={
            **dict.fromkeys((MEAN, *tasks_of(points)), score),
            "unbeaten": st.column_config.CheckboxColumn(help="No other is as good in every task and better in one."),
            "seconds": st.column_config.NumberColumn(format="%.2f"),
        },
        alt="Points of the sweep, the best first",
    )
    st.download_button(
        "CSV",
        lambda: csv_text(rows),
        f"{job.id}.csv",
        "text/csv",
        key="jobs_points_csv",
        icon=":material/download:",
        on_click="ignore",
    )


def _figure(points: Sequence[Mapping[str, Any]]) -> None:
    axes = axes_of(points)
    if len(axes) == 1 and len(rows := curve_rows(points, axes[0])) > 1:
        st.vega_lite_chart(curves_figure(rows, axes[0]), key="jobs_curves", alt=f"Curves: scores over {axes[0]}")
    if len(axes) != 2:
        return
    tasks = tasks_of(points)
    task = st.selectbox("Score", [MEAN, *tasks], key="jobs_task", width=300) if len(tasks) > 1 else MEAN
    found = cells(points, axes, str(task))
    if found:
        st.vega_lite_chart(
            heat_figure(found, axes, str(task)),
            key="jobs_heat",
            alt=f"Heat map: {task} score over {axes[0]} and {axes[1]}",
        )
