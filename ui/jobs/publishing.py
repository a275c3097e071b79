"""Putting a finished merge on the Hub: everything that would happen is shown before anything is sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import streamlit as st

from merging import Job, Jobs, MergingError
from ui import boxes, remote
from ui.jobs.listing import CHOSEN
from ui.jobs.outlook import Wish, outlook_of, show_outlook
from ui.places import path_refusal
from ui.questions import StillAsking

# Which job's dialog is open; kept, so that it stays open when the page beneath is drawn anew.
OPEN = "jobs_publishing"
MAIN, BRANCH, PULL = "main", "a branch", "a pull request"


def suggested(owner: str, folder: Path) -> str:
    """A name for a repository, after the folder.

    >>> suggested("ada", Path("/models/my merge (2)"))
    'ada/my-merge-2'
    """
    name = re.sub(r"[^A-Za-z0-9._]+", "-", folder.name).strip("-.")[:90]
    return f"{owner}/{name or 'merged'}"


def publish_button(job: Job) -> None:
    """Open the dialog."""
    says = "" if job.out.is_dir() else "The folder is not there any more."
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
    try:
        account = _account()
        if account is not None:
            _wish_and_outlook(job, account)
    except StillAsking:
        st.info("The Hub has not answered yet.", icon=":material/hourglass_empty:")
        st.button("Look again", key="publish_look", icon=":material/refresh:")
    except MergingError as error:
        boxes.problem(error)
        st.button("Ask the Hub again", key="publish_again", on_click=remote.questions().forget_refusals)


def _account() -> Any:
    """Whose token it is; without one, a field for it."""
    typed = remote.typed_token()
    try:
        found = remote.account()
    except StillAsking:
        raise
    except MergingError as error:
        if typed is None:
            raise
        boxes.problem(error)
        found = None
    if found is None:
        _ask_token()
    elif typed is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"As {boxes.plain(found.name)}, by the token that was typed in here.", width="content")
            st.button("Forget it", key="publish_forget", type="tertiary", on_click=remote.keep_token, args=("",))
    return found


def _ask_token() -> None:
    """A token for this session; the field is emptied at once."""

    def given() -> None:
        remote.keep_token(str(st.session_state["publish_token"]).strip())
        st.session_state["publish_token"] = ""

    st.text_input(
        "Access token",
        key="publish_token",
        type="password",
        on_change=given,
        placeholder="hf_…",
        help="One that may write. It stays in the server's memory until you leave, goes to the process that publishes "
        "by its environment, and is written nowhere.",
    )
    st.caption(
        "There is no token: type one, or log in where the workbench is started (`hf auth login`, or HF\\_TOKEN)."
    )


def _wish_and_outlook(job: Job, account: Any) -> None:
    if not account.may_write:
        st.warning(f"The token of {boxes.plain(account.name)} may only read.", icon=":material/lock:")
    wish = _ask_wish(job, account)
    if not wish.repository or (wish.branch is not None and not wish.branch):
        boxes.empty("Name a repository, and a branch where you chose one.")
        return
    outlook = None
    with st.container(border=True):
        try:
            with st.spinner("Looking what is there"):
                outlook = outlook_of(job.out, wish)
            show_outlook(outlook)
        except StillAsking:
            raise
        except MergingError as error:
            boxes.problem(error)
    _start(job, wish, outlook)


def _ask_wish(job: Job, account: Any) -> Wish:
    owners = ", ".join((account.name, *account.organisations)[:6])
    if "publish_repository" not in st.session_state:
        st.session_state["publish_repository"] = suggested(account.name, job.out)
    name, where = st.columns([3, 2], vertical_alignment="bottom")
    repository = name.text_input("Repository", key="publish_repository", help=f"owner/name; yours: {owners}")
    place = where.segmented_control(
        "Commit to", (MAIN, BRANCH, PULL), default=MAIN, required=True, key="publish_where", width="stretch"
    )
    branch = st.text_input("Branch", key="publish_branch") if place == BRANCH else None
    message = st.text_input("Message of the commit", key="publish_message", placeholder="Merge by …, with merging")
    first, second = st.columns(2)
    private = first.toggle(
        "Private",
        value=True,
        key="publish_private",
        help="Of a repository that is made by this; one that is there stays as it is.",
    )
    replacing = second.toggle(
        "Delete weights of another model",
        key="publish_replace",
        help="Where the repository holds weights that are not of this merge, it would be uncertain which are loaded.",
    )
    asked = branch.strip() if branch is not None else None
    return Wish(repository.strip(), asked, place == PULL, private, replacing, message.strip())


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
