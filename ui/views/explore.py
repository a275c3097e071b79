"""Move the weights of models and see where their merge stands, and how well it reads, move with them."""

from __future__ import annotations

import streamlit as st

from merging import MergingError, find_zoo
from ui import boxes
from ui.explore.scene import Scene, scene
from ui.explore.workspace import workspace
from ui.models import pick_one, pick_several


def page() -> None:
    """The page."""
    boxes.heading("Explore", "Give every model a weight: where the merge stands and how well it reads move along.")
    base, models = _pick()
    if base is None or not models:
        boxes.empty("Choose a base model and one or more of its fine-tunes.")
        return
    with boxes.problems_shown():
        read = _scene(base, models)
    for warning in read.warnings:
        st.caption(f":material/info: {boxes.plain(warning)}")
    workspace(base, models)


def _pick() -> tuple[str | None, tuple[str, ...]]:
    """Base and models; at first the bundled ones."""
    try:
        zoo = find_zoo()
        first, others = str(zoo.base), tuple(map(str, zoo.fine_tunes.values()))
    except MergingError:
        first, others = None, ()
    left, right = st.columns([1, 3])
    with left:
        base = pick_one("Base model", "explore_base", first)
    with right:
        models = pick_several("Models", "explore_models", others)
    return base, models


def _scene(base: str, models: tuple[str, ...]) -> Scene:
    """The models' inner products; progress is shown where their weights must be read for it."""
    place = st.empty()

    def watch(read: int, total: int) -> None:
        place.progress(min(1.0, read / max(1, total)), "Reading the weights once; after that they are remembered")

    found = scene(base, models, watch)
    place.empty()
    return found


page()
