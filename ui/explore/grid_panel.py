"""The grid on the page: choosing its axes, following its sweep, taking a point over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from merging import Job, Jobs, MergingError
from ui import boxes
from ui.explore import grid as grids
from ui.explore.grid import ACTIVE, Axis, Grid
from ui.explore.grid_figures import CELL, front_figure, heat_figure
from ui.explore.scene import Scene
from ui.explore.wish import WEIGHT, Wish, with_values

_KEY, TAKEN = "explore_grid", "explore_taken"
EVERY_SECONDS = 1.0


def kept_grid(wish: Wish) -> Grid | None:
    """The grid that was started last, where it is about these models."""
    held = st.session_state.get(_KEY)
    grid = grids.grid_from(held) if held else None
    return grid if grid and grids.fits(grid, wish) else None


def show_grid(scene: Scene, wish: Wish, scores: Mapping[str, Any] | None) -> None:
    """Axes to choose, and the last grid's charts."""
    axes = grids.axes_of(grids.method_of(wish), scene.names[: len(wish.models)])
    if len(axes) < 2:
        boxes.empty(f"{boxes.plain(wish.method)} has fewer than two settings to vary.")
    else:
        _ask(scene, wish, axes)
    grid = kept_grid(wish)
    if grid is None:
        boxes.empty("Choose two settings and start: every combination is merged and scored in the background.")
        return
    job = grids.job_of(grid)
    if job is None:
        boxes.empty("The sweep of this grid was removed.")
        return
    following = job.state in ACTIVE
    st.fragment(_follow, run_every=EVERY_SECONDS if following else None, key="explore_grid_fragment")(
        wish, grid, scores, following
    )


def _ask(scene: Scene, wish: Wish, axes: Sequence[Axis]) -> None:
    labels = {axis.label: axis for axis in axes}
    first, second = grids.usual_axes(grids.method_of(wish), axes)
    columns = st.columns([3, 3, 2], vertical_alignment="bottom")
    chosen: list[tuple[Axis, list[float]]] = []
    for column, at, letter in zip(columns, (first, second), "ab", strict=False):
        with column:
            chosen.append(_ask_axis(labels, at, f"explore_axis_{letter}_{wish.method}"))
    (a, first_values), (b, second_values) = chosen
    count = len(first_values) * len(second_values)
    with columns[2]:
        started = st.button(
            f"Score {count} merges", key="explore_grid_start", icon=":material/grid_on:", disabled=a.name == b.name
        )
    if a.name == b.name:
        st.caption("The two settings must differ.")
    if wish.has_blocks and (a.name.startswith(WEIGHT) or b.name.startswith(WEIGHT)):
        st.caption("Models that the grid varies take part with one weight everywhere, not by layer and part.")
    if started:
        _start(scene, wish, (a, b), (first_values, second_values))


def _ask_axis(labels: Mapping[str, Axis], at: int, key: str) -> tuple[Axis, list[float]]:
    name = st.selectbox("Vary" if key.startswith("explore_axis_a") else "and", list(labels), index=at, key=key)
    axis = labels[str(name)]
    low, high = axis.bounds
    ends = st.columns(3)
    bounds: dict[str, Any] = {"min_value": low, "max_value": high, "format": "%g"}
    first = ends[0].number_input("from", value=axis.ends[0], key=f"{key}_from_{axis.name}", **bounds)
    last = ends[1].number_input("to", value=axis.ends[1], key=f"{key}_to_{axis.name}", **bounds)
    steps = ends[2].number_input("steps", 2, grids.MOST_STEPS, grids.USUAL_STEPS, key=f"{key}_steps")
    return axis, grids.values_between(float(first), float(last), int(steps))


def _start(scene: Scene, wish: Wish, axes: tuple[Axis, Axis], values: tuple[list[float], list[float]]) -> None:
    try:
        st.session_state[_KEY] = grids.start(wish, scene.tensors, axes, values).data()
    except MergingError as error:
        boxes.problem(error)


def _follow(wish: Wish, grid: Grid, scores: Mapping[str, Any] | None, following: bool) -> None:
    """What the sweep has found so far; drawn anew every second while it works."""
    job = grids.job_of(grid)
    if job is None or TAKEN in st.session_state:
        st.rerun()
        return
    points = job.points()
    _progress(job, grid, len(points))
    if job.error is not None:
        boxes.problem(job.error)
    rows = grids.cells(grid, points)
    failed = [point for point in points if point.get("error")]
    if failed:
        st.caption(f"{len(failed)} merges could not be made: {boxes.plain(failed[0]['error'])}")
    if rows:
        left, right = st.columns(2)
        with left:
            _heat(wish, grid, points, rows)
        with right:
            _front(grid, points, scores)
        _choose(grid, points)
    boxes.command(*job.command[1:], label="The same grid on the command line")
    if following and job.state not in ACTIVE:
        # The timer stops, and the map gets the last points.
        st.rerun()


def _progress(job: Job, grid: Grid, done: int) -> None:
    state = job.state
    if state not in ACTIVE:
        st.caption(f"{done} of {grid.count} merges scored on all validation digits · {state}")
        return
    place = job.position
    waits = f"waits behind {place - 1} other jobs" if place and place > 1 else "starting"
    told = f"{done} of {grid.count} merges scored" if done else waits
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(1.0, done / grid.count), told)
        st.button("Stop", key="explore_grid_stop", on_click=_stop, args=(grid.job,))


def _stop(id: str) -> None:
    try:
        Jobs().find(id).cancel()
    except MergingError as error:
        st.toast(boxes.plain(error.what))


def _heat(wish: Wish, grid: Grid, points: Sequence[Mapping[str, Any]], rows: Sequence[Any]) -> None:
    here = present(wish, grid)
    st.vega_lite_chart(
        heat_figure(rows, grid.labels, here),
        key="explore_heat_chart",
        on_select=lambda: _clicked("explore_heat_chart", grid, points),
        selection_mode=CELL,
        alt=f"Heat map: mean score over {grid.labels[0]} and {grid.labels[1]}",
    )


def present(wish: Wish, grid: Grid) -> dict[str, float] | None:
    """Where the sliders are in the grid; None where they differ from it in more than its axes."""
    if grid.wish.method != wish.method:
        return None
    found = {}
    for letter, name in zip("ab", grid.names, strict=True):
        shared = dict(wish.shared)
        default = grids.method_of(wish).defaults().get(name)
        value = (
            wish.weights[int(name[len(WEIGHT) + 1 : -1])]
            if name.startswith(f"{WEIGHT}[")
            else shared.get(name, default)
        )
        if value is None:
            return None
        found[letter] = float(value)
    same = with_values(grid.wish, dict(zip(grid.names, found.values(), strict=True)))
    mine = with_values(wish, dict(zip(grid.names, found.values(), strict=True)))
    return found if (same.weights, dict(same.shared)) == (mine.weights, dict(mine.shared)) else None


def _front(grid: Grid, points: Sequence[Mapping[str, Any]], scores: Mapping[str, Any] | None) -> None:
    tasks = list(next((point["scores"] for point in points if point.get("scores")), {}))
    if len(tasks) < 2:
        return
    with st.container(horizontal=True):
        a = st.selectbox("Task", tasks, index=0, key="explore_front_a", persist_state="session")
        others = [task for task in tasks if task != a]
        b = st.selectbox("against", others, index=0, key="explore_front_b", persist_state="session")
    here = None
    if scores and scores["part"] == "validation" and a in scores["tasks"]:
        here = {"a": scores["tasks"][a], "b": scores["tasks"][b]}
    st.vega_lite_chart(
        front_figure(grids.front(points, str(a), str(b)), (str(a), str(b)), here),
        key="explore_front_chart",
        on_select=lambda: _clicked("explore_front_chart", grid, points),
        selection_mode=CELL,
        alt=f"Scores in {a} against scores in {b}, with the Pareto front",
    )


def _choose(grid: Grid, points: Sequence[Mapping[str, Any]]) -> None:
    """Taking a point over without a click into a chart."""
    scored = sorted((p for p in points if p.get("mean") is not None), key=lambda p: -p["mean"])
    told = {point["point"]: _told(grid, point) for point in scored}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        # A choice is kept until a better point comes in.
        key = f"explore_point_{grid.job}_{next(iter(told))}"
        chosen = st.selectbox("Point, best first", list(told), format_func=told.__getitem__, key=key)
        taken = st.button("Take over", key="explore_take", icon=":material/near_me:")
    st.caption("A click into a chart takes a point over as well.")
    if taken and chosen is not None:
        st.session_state[TAKEN] = _wish_at(grid, points, chosen).data()
        st.rerun()


def _told(grid: Grid, point: Mapping[str, Any]) -> str:
    values = ", ".join(
        f"{label} {point['values'][name]:g}" for name, label in zip(grid.names, grid.labels, strict=True)
    )
    return f"{point['mean']:.1%} · {values}"


def _wish_at(grid: Grid, points: Sequence[Mapping[str, Any]], chosen: int) -> Wish:
    return with_values(grid.wish, next(point["values"] for point in points if point["point"] == chosen))


def _clicked(chart: str, grid: Grid, points: Sequence[Mapping[str, Any]]) -> None:
    found = st.session_state[chart].selection.get(CELL) or []
    if found:
        st.session_state[TAKEN] = _wish_at(grid, points, int(found[0]["point"])).data()
