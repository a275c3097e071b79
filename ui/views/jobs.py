"""Merges, sweeps and pushes as they wait, run and end: watch, stop, take up again, look into, compare."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from merging import Job, Jobs, MergingError
from ui import boxes
from ui.jobs.comparing import show_comparison
from ui.jobs.header import COMPOSE, show_header
from ui.jobs.listing import JOB, LAST, chosen_id, show_list
from ui.jobs.points import show_points
from ui.jobs.publishing import show_publishing
from ui.jobs.result import show_events, show_files, show_published, show_recipe, wrote_later
from ui.jobs.tensors import show_tensors

MERGE_TABS = ("Recipe", "Result", "What every tensor got", "Events", "Compare")
SWEEP_TABS = ("Points", "Recipe", "Events", "Compare")
PUSH_TABS = ("Published", "Events")


def page() -> None:
    """The page."""
    boxes.heading(
        "Jobs", "Merges and pushes run in processes of their own, whatever becomes of this page or its server."
    )
    jobs = Jobs()
    found = jobs.all()
    asked = st.query_params.get(JOB)
    if not found and not asked:
        _none_yet()
        return
    try:
        job = jobs.find(chosen_id(found))
        st.session_state[LAST] = job.id
    except MergingError as error:
        boxes.problem(error)
        job = None
    if found:
        show_list(jobs, found, job.id if job else "")
    if job is None:
        return
    show_header(jobs, job)
    _tabs(job, found)
    show_publishing(job)


def _none_yet() -> None:
    boxes.empty("No job yet. Write a recipe on the Compose page and start it there, or hand one in by a command.")
    if st.button("To Compose", key="jobs_first", type="primary", icon=":material/tune:"):
        st.switch_page(COMPOSE)
    boxes.command("jobs", "submit", "recipe.yaml", "merged/", label="By a command")


def _tabs(job: Job, found: Sequence[Job]) -> None:
    """Only the open tab is computed."""
    panels = {
        "Points": lambda: show_points(job),
        "Published": lambda: show_published(job),
        "Recipe": lambda: show_recipe(job),
        "Result": lambda: show_files(job, wrote_later(job, found)),
        "What every tensor got": lambda: show_tensors(job),
        "Events": lambda: show_events(job),
        "Compare": lambda: show_comparison(job, found),
    }
    names = {"sweep": SWEEP_TABS, "push": PUSH_TABS}.get(job.kind, MERGE_TABS)
    for name, tab in zip(names, st.tabs(names, key=f"jobs_tabs_{job.kind}", on_change="rerun"), strict=True):
        if tab.open:
            with tab:
                panels[name]()


page()
