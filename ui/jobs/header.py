"""One job: what it is, how it stands, what can be done with it."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from merging import Job, Jobs, MergingError
from ui import boxes, draft, remote
from ui.compose.start import OUT
from ui.jobs.listing import CHOSEN, JOB, LAST
from ui.jobs.publishing import publish_button
from ui.jobs.status import ACTIVE, LOOKS, RESUMABLE, moment, progress_says, title
from ui.places import path_refusal

POLL_SECONDS = 1.0
MOST_WARNINGS, EVENTS_READ = 5, 1000
COMPOSE, BROWSE = "views/compose.py", "views/browse.py"


def show_header(jobs: Jobs, job: Job) -> None:
    """Title, state, progress, buttons, and why it failed."""
    state = job.state
    with st.container(gap="xsmall"):
        _names(job, state)
        draw = st.fragment(_progress, run_every=POLL_SECONDS if state in ACTIVE else None)
        draw(job, state, job.is_stopping)
    _actions(jobs, job, state)
    _faults(job, state)


def _names(job: Job, state: str) -> None:
    look = LOOKS[state]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader(boxes.plain(title(job)), anchor=False, width="content")
        st.badge(state, icon=look.icon, color=look.colour)  # type: ignore[arg-type]
    of = {"sweep": f"sweep of {job.method}", "push": f"{job.out} to {job.repository}"}.get(job.kind)
    of = of or (f"{job.method}, sent to {job.repository}" if job.repository else job.method)
    told = [job.id, of, f"handed in {moment(job.created)}"]
    told += [f"began {moment(job.started)}"] if job.started else []
    st.caption(" · ".join(boxes.plain(each) for each in told if each))


def _progress(job: Job, state: str, stopping: bool) -> None:
    """How far it is; when it moves on to another state, the page is drawn anew."""
    if (job.state, job.is_stopping) != (state, stopping):
        st.rerun()
    says = boxes.plain(progress_says(job)) + (" · stopping" if stopping else "")
    if state in ACTIVE:
        st.progress(min(1.0, job.progress.share), says)
    else:
        st.markdown(says)


def _actions(jobs: Jobs, job: Job, state: str) -> None:
    with st.container(horizontal=True, key="jobs_actions"):
        if state in ACTIVE:
            _cancel(job)
        if state in RESUMABLE:
            _resume(job)
        if state == "done" and job.kind == "merge":
            browse_button(job, "jobs_browse")
            publish_button(job)
        if state == "done":
            published_links(job)
        if job.recipe:
            _again(jobs, job)
        if state not in ACTIVE:
            _remove(jobs, job)


def _cancel(job: Job) -> None:
    stopping = job.is_stopping
    tells = "It stops within about a block; what is finished is kept, and Resume goes on from there."
    if st.button(
        "Stopping" if stopping else "Cancel",
        key="jobs_cancel",
        icon=":material/stop:",
        disabled=stopping,
        help=tells,
    ):
        _carry_out(job.cancel)


def _resume(job: Job) -> None:
    tells = "Goes on where it stopped; the result has the same bytes."
    token = remote.typed_token() if job.repository else None
    icon = ":material/play_arrow:"
    if st.button("Resume", key="jobs_resume", type="primary", icon=icon, help=tells):
        _carry_out(lambda: job.resume(token=token))


def _carry_out(action: Callable[[], object]) -> None:
    try:
        action()
    except MergingError as error:
        boxes.problem(error)
    else:
        st.rerun()


def browse_button(job: Job, key: str) -> None:
    """Hand the output over to the Browse page."""
    says = "" if job.out.is_dir() else "The folder is not there any more."
    says = says or ("" if job.keeps_weights else f"Its weights were sent to {job.repository} and are not here.")
    says = says or path_refusal(str(job.out)) or ""
    if st.button(
        "Browse", key=key, icon=":material/account_tree:", disabled=bool(says), help=boxes.plain(says) or None
    ):
        st.session_state["browse_source"] = str(job.out)
        st.switch_page(BROWSE)


def published_links(job: Job) -> None:
    """Where what was published can be looked at."""
    told = job.published or {}
    for label, key, icon in (
        ("Pull request", "pull_request", ":material/merge_type:"),
        ("Published commit", "url", ":material/open_in_new:"),
    ):
        address = str(told.get(key) or "")
        if address.startswith(("https://", "http://")):
            st.link_button(label, address, icon=icon, key=f"jobs_{key}")


def _again(jobs: Jobs, job: Job) -> None:
    """A sweep once more, as it was; of any recipe, a new merge into a folder beside the last one."""
    if job.kind == "sweep":
        tells = "Queues the same sweep: recipe, grid and score as they were."
        if st.button("Run again", key="jobs_sweep_again", icon=":material/replay:", help=tells):
            _carry_out(lambda: _follow(jobs.sweep_again(job.id)))
    label = "To Compose" if job.kind == "sweep" else "Run again"
    tells = "The recipe that was varied, as a merge of its own." if job.kind == "sweep" else "Opens it in Compose."
    icon = ":material/edit_note:" if job.kind == "sweep" else ":material/replay:"
    if st.button(label, key="jobs_again", icon=icon, help=tells):
        text, fresh = job.again()
        draft.put(text)
        if job.kind != "sweep":
            st.session_state[OUT] = str(fresh)
        st.switch_page(COMPOSE)


def _follow(job: Job) -> None:
    """Show this job from now on."""
    st.session_state[CHOSEN] = job.id


def _remove(jobs: Jobs, job: Job) -> None:
    with st.popover("Remove from history", key="jobs_remove", icon=":material/delete:"):
        stays = {"sweep": "Its points and its recipe go.", "push": "What is on the Hub stays there."}
        says = stays.get(job.kind, f"What it wrote stays: {job.out}")
        st.markdown(f"The record of this job goes. {boxes.plain(says)}")
        asked = st.button("Remove", key="jobs_remove_surely", type="primary")
    if asked:
        _carry_out(lambda: _forget(jobs, job))


def _forget(jobs: Jobs, job: Job) -> None:
    jobs.remove(job.id)
    st.query_params.pop(JOB, None)
    st.session_state.pop(LAST, None)


def _faults(job: Job, state: str) -> None:
    error = job.error
    if error is not None:
        boxes.problem(error)
    warnings = [str(event.get("text")) for event in job.events(EVENTS_READ) if event.get("event") == "Warned"]
    for text in list(dict.fromkeys(warnings))[:MOST_WARNINGS]:
        st.warning(boxes.plain(text.replace("`", "")), icon=":material/warning:")
    log = job.log().strip() if state in ("failed", "lost") else ""
    if log:
        with st.expander("What it printed", icon=":material/article:"):
            st.code(log, language=None, wrap_lines=True)
    if state in RESUMABLE:
        boxes.command("jobs", "resume", job.id, label="Resume on the command line")
