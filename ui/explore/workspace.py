"""Everything on the page that a slider moves, in one fragment: controls on the left, what comes of them right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from merging import MergingError
from ui import boxes
from ui.explore import controls, grid, grid_panel, panels, trail
from ui.explore.geometry import Plane
from ui.explore.grid_panel import TAKEN
from ui.explore.scene import Part, Reference, Scene, Stamps, merge_scores, reference, scene, stamps, why_unscored
from ui.explore.standing import Standing, measured, of_sum
from ui.explore.wish import Wish, coefficients, recipe_text, wish_from


@st.fragment(key="explore_workspace")
def workspace(base: str, models: tuple[str, ...]) -> None:
    """Controls and charts; a slider draws these anew and nothing else of the page."""
    draw(base, models)


def draw(base: str, models: tuple[str, ...]) -> None:
    """Ask for a wish, and show where its merge stands and how well it reads.

    Geometry comes first where a formula tells it at once; that of other merges when they have been made and measured.
    """
    with boxes.problems_shown():
        read = scene(base, models)
    if TAKEN in st.session_state:
        controls.take_over(wish_from(st.session_state.pop(TAKEN)), read.names)
    left, right = st.columns([3, 8], gap="large")
    with left:
        wish = controls.ask_wish(read, base, models)
        digits = panels.ask_digits()
        busy = st.empty()
    with right:
        at = _tried(lambda: coefficients(wish, read.tensors, len(read.names)))
        merge = of_sum(read, at) if at else None
        places = _places()
        if merge is not None and merge.kind == "sum":
            _geometry(read, wish, merge, places)
        text = _tried(lambda: recipe_text(wish, read.tensors)) if at else None
    with left:
        if text is not None:
            panels.show_recipe(text, 0.0 in wish.weights)
    with right:
        _scored(read, wish, merge, text, digits, places, busy)


def _scored(
    read: Scene,
    wish: Wish,
    merge: Standing | None,
    text: str | None,
    digits: tuple[Part, int],
    places: Mapping[str, Any],
    busy: Any,
) -> None:
    """The merge's scores, its geometry where that had to wait for it, and the grid."""
    stamped = stamps(wish.base, *read.sources)
    says = why_unscored(wish.base, stamped)
    scores = None
    with places["scores"]:
        if says is not None or text is None or merge is None:
            says_why = says or "there is no merge with these settings"
            boxes.empty(f"No scores: {boxes.plain(says_why)}", ":material/monitoring:")
        else:
            scores = _scores(read, wish, merge, text, digits, stamped, busy)
    if scores is not None:
        panels.show_means(scores[0], scores[1], places["cells"][3:])
    if scores is not None and scores[0]["products"]:
        merge = measured(read, scores[0]["products"])
    if merge is None or merge.kind != "sum":
        _geometry(read, wish, merge, places)
    if scores is not None and merge is not None and digits[0] == "validation":
        trail.note(wish, merge, scores[0])
    if says is None:
        st.subheader("Grid", anchor=False)
        grid_panel.show_grid(read, wish, scores[0] if scores else None)


def _tried(work: Callable[[], Any]) -> Any:
    """What the work gives, or None with its problem shown."""
    try:
        return work()
    except MergingError as error:
        boxes.problem(error)
        return None


def _places() -> dict[str, Any]:
    """Where everything is drawn, kept in order however long each takes."""
    cells = st.columns(5)
    upper, lower = st.columns(2, gap="medium"), st.columns(2, gap="medium")
    named = zip(("map", "scores", "layers", "agreement"), (*upper, *lower), strict=True)
    places = {name: column.container() for name, column in named}
    for name, place in places.items():
        place.subheader(name.capitalize(), anchor=False)
    return {"cells": cells, **places}


def _geometry(read: Scene, wish: Wish, merge: Standing | None, places: Mapping[str, Any]) -> None:
    panels.show_numbers(merge, places["cells"][:3])
    with places["map"]:
        plane = panels.ask_plane(read)
        panels.show_map(read, wish, merge, plane, _mesh(read, plane, wish))
    with places["layers"]:
        if merge is not None:
            panels.show_layers(read, merge)
    with places["agreement"]:
        panels.show_agreement(read, merge)


def _mesh(read: Scene, plane: Plane, wish: Wish) -> list[Any]:
    """The last grid's points, where it is about these models."""
    kept = grid_panel.kept_grid(wish)
    job = grid.job_of(kept) if kept else None
    return grid.mesh(read, plane, kept, job.points()) if kept and job else []


def _scores(
    read: Scene, wish: Wish, merge: Standing, text: str, digits: tuple[Part, int], stamped: Stamps, busy: Any
) -> tuple[dict[str, Any], Reference] | None:
    """The merge's scores, drawn beside what they are compared with; None where it cannot be made."""
    names = tuple(each.name for each in read.tensors)
    among = None if merge.kind == "sum" else (wish.base, read.sources, names)
    try:
        # The word is beside the charts, which would jump if it came and went above them.
        with busy, st.spinner("Merging and reading digits"):
            compared = reference(wish.base, *digits, stamped)
            scores = merge_scores(text, *digits, stamped, among)
    except MergingError as error:
        boxes.problem(error)
        return None
    panels.show_scores(scores, compared)
    return scores, compared
