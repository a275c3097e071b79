"""Move the weights of models and see where their merge stands, and how well it reads, move with them."""

from __future__ import annotations

import streamlit as st

from merging import MergingError, contents, find_zoo, readable
from ui import boxes, remote
from ui.explore.scene import Scene, is_known, scene
from ui.explore.workspace import workspace
from ui.models import pick_one, pick_several


def page() -> None:
    """The page."""
    boxes.heading("Explore", "Give every model a weight: where the merge stands and how well it reads move along.")
    base, models = _pick()
    if base is None or not models:
        boxes.empty("Choose a base model and one or more of its fine-tunes.")
        return
    remote.begin(base, *models)
    with remote.answers_shown():
        if not _may_read(base, models):
            return
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


def _may_read(base: str, models: tuple[str, ...]) -> bool:
    """Whether the weights are here or known, or somebody has asked to fetch those that are on the Hub."""
    distant = [source for source in dict.fromkeys((base, *models)) if remote.is_remote(source)]
    if not distant or is_known(base, models):
        return True
    nbytes = sum(each.nbytes for source in distant for each in contents(remote.opened(source)).tensors)
    place = st.empty()
    with place.container():
        st.caption(
            f"{readable(nbytes)} are to be read from the Hub; their inner products are kept, so that it is once."
        )
        asked = st.button("Read the weights", type="primary", key="explore_fetch", icon=":material/cloud_download:")
    if asked:
        place.empty()
    return asked


def _scene(base: str, models: tuple[str, ...]) -> Scene:
    """The models' inner products; progress is shown where their weights must be read for it."""
    place = st.empty()

    def watch(read: int, total: int) -> None:
        place.progress(min(1.0, read / max(1, total)), "Reading the weights once; after that they are remembered")

    found = scene(base, models, watch)
    place.empty()
    return found


page()
