"""Putting a finished merge on the Hub: everything that would happen is shown before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from merging import Job, Jobs, MergingError
from ui import boxes, remote
from ui.jobs.listing import CHOSEN
from ui.jobs.outlook import outlook_of, show_outlook
from ui.places import path_refusal
from ui.publishing import Wish, ask_destination, show_foreseen, suggested, with_account

# Which job's dialog is open; kept, so that it stays open when the page beneath is drawn anew.
OPEN = "jobs_publishing"


def publish_button(job: Job) -> None:
    """Open the dialog."""
    says = "" if job.out.is_dir() else "The folder is not there any more."
    says = says or ("" if job.keeps_weights else f"Its weights were sent to {job.repository} and are not here.")
    says = says or path_refusal(str(job.out)) or ""
    says = says or ("" if remote.is_allowed() else f"This workbench does not ask the Hub ({remote.SWITCH}=off).")
    if st.button(
        "Publish",
        key="jobs_publish",
        icon=":material/cloud_upload:",
        disabled=bool(says),
        help=boxes.plain(says) or "Put it on the Hub: what would happen is shown first.",
    ):
        st.session_state[OPEN] = job.id


def show_publishing(job: Job) -> None:
    """The dialog, while it is open for this job."""
    if st.session_state.get(OPEN) == job.id and job.state == "done" and job.kind == "merge":
        _dialog(job)


def _closed() -> None:
    st.session_state.pop(OPEN, None)


@st.dialog("Publish on the Hub", width="large", icon=":material/cloud_upload:", on_dismiss=_closed)
def _dialog(job: Job) -> None:
    st.caption(boxes.plain(str(job.out)))
    with_account(lambda account: _wish_and_outlook(job, account))


def _wish_and_outlook(job: Job, account: Any) -> None:
    wish = ask_destination(account, suggested(account.name, job.out))
    wish = replace(
        wish,
        replace=st.toggle(
            "Delete weights of another model",
            key="publish_replace",
            help="Where the repository holds weights that are not of this merge, it would be uncertain which are "
            "loaded.",
        ),
        message=st.text_input(
            "Message of the commit", key="publish_message", placeholder="Merge by …, with merging"
        ).strip(),
    )
    if not wish.is_whole:
        boxes.empty("Name a repository, and a branch where you chose one.")
        return
    _start(job, wish, show_foreseen(lambda: outlook_of(job.out, wish), show_outlook))


def _start(job: Job, wish: Wish, outlook: Any) -> None:
    """The button, and the command line that does the same."""
    if st.button(
        "Publish" if outlook is None or not outlook.target.pull_request else "Propose",
        key="publish_start",
        type="primary",
        icon=":material/cloud_upload:",
        disabled=outlook is None,
    ):
        try:
            made = Jobs().submit_push(
                job.out,
                wish.repository,
                branch=wish.branch,
                pull_request=wish.pull_request,
                private=wish.private,
                parent=outlook.parent,
                replace=wish.replace,
                message=wish.message,
                token=remote.typed_token(),
            )
        except MergingError as error:
            boxes.problem(error)
            return
        st.session_state[CHOSEN] = made.id
        _closed()
        st.rerun()
    boxes.command("push", str(job.out), wish.repository, *wish.options())
