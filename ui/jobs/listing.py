"""All jobs, newest first: searched, filtered, and one of them chosen."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import streamlit as st

from merging import Job, Jobs
from ui import boxes
from ui.jobs.status import ACTIVE, LOOKS, lasted, seconds_of, spelled, title

Row = dict[str, Any]

JOB, CHOSEN, LAST = "job", "jobs_chosen", "jobs_last"
# Jobs that a list shows; the search finds the others.
MOST_JOBS = 500
# What a table takes at this font size; a row cut in half says that there are more.
ROWS_IN_SIGHT, PIXELS_IN_SIGHT = 7, 282
POLL_SECONDS = 2.0
COLUMNS = ("shown", "state", "name", "progress", "method", "started", "took", "output")
# The end of a path says more than its beginning.
PARTS_OF_PATH = 3
SHOWN = "➤"


def chosen_id(found: Sequence[Job]) -> str:
    """The job that is shown: that of the address, the one shown last, one that runs, the newest."""
    if CHOSEN in st.session_state:
        # In the address from now on, so that a reload and another tab find it.
        st.query_params[JOB] = st.session_state.pop(CHOSEN)
    if asked := st.query_params.get(JOB):
        return str(asked)
    ids = [job.id for job in found]
    if (last := st.session_state.get(LAST)) in ids:
        return str(last)
    return next((job.id for job in found if job.state == "running"), ids[0])


def short_path(path: Path) -> str:
    """The last parts of a path.

    >>> short_path(Path("/data/ada/models/merged")), short_path(Path("/tmp/out"))
    ('…/ada/models/merged', '/tmp/out')
    """
    parts = path.parts
    return str(path) if len(parts) <= PARTS_OF_PATH + 1 else "/".join(("…", *parts[-PARTS_OF_PATH:]))


def row(job: Job) -> Row:
    """A job as a line of the list."""
    state, place = job.state, job.position
    return {
        "id": job.id,
        "word": state,
        "state": [spelled(state) if place is None else f"{spelled(state)}, {place}"],
        "name": title(job),
        "method": "publish" if job.kind == "push" else job.method or "–",
        "output": _output(job),
        # Without a zone: a table shows it as it is here.
        "started": job.started.astimezone().replace(tzinfo=None) if job.started else None,
        "took": lasted(seconds_of(job)),
        "progress": int(100 * job.progress.share),
    }


def _version(job: Job) -> tuple[str, int]:
    """What is another value when the job's state file is another one."""
    try:
        return str(job.folder), (job.folder / "state.json").stat().st_mtime_ns
    except OSError:
        return str(job.folder), 0


@st.cache_data(max_entries=4 * MOST_JOBS, show_spinner=False, hash_funcs={Job: _version})
def _ended_row(job: Job) -> Row:
    """The line of a job that is over, read once."""
    return row(job)


def rows_of(jobs: Sequence[Job]) -> list[Row]:
    """The lines of these jobs."""
    return [_ended_row(job) if job.state in ("done", "failed", "cancelled") else row(job) for job in jobs]


def counted(rows: Sequence[Row]) -> str:
    """How many jobs a list holds, and how many of them are still to end.

    >>> counted([{"word": "running"}, {"word": "done"}])
    '2 jobs · 1 running'
    """
    told = [f"{len(rows):,} job{'s' if len(rows) != 1 else ''}"]
    for word in ACTIVE[::-1]:
        found = sum(row["word"] == word for row in rows)
        told += [f"{found:,} {word}"] if found else []
    return " · ".join(told)


def show_list(jobs: Jobs, found: Sequence[Job], shown: str) -> None:
    """Search, filter and table; drawn anew every few seconds while any job waits or runs, and never else."""
    with st.container(horizontal=True, vertical_alignment="center"):
        wanted = st.text_input(
            "Search",
            key="jobs_search",
            placeholder="name, method, model, folder, any word of a recipe",
            icon=":material/search:",
            label_visibility="collapsed",
        )
        states = st.pills(
            "State",
            list(LOOKS),
            selection_mode="multi",
            key="jobs_states",
            format_func=lambda state: f"{LOOKS[state].icon} {state}",
            label_visibility="collapsed",
        )
        st.button("Refresh", key="jobs_refresh", icon=":material/refresh:", help="Look for jobs that began elsewhere.")
    moving = frozenset(job.id for job in found if job.state in ACTIVE)
    draw = st.fragment(_table, run_every=POLL_SECONDS if moving else None)
    draw(jobs, str(wanted or ""), list(states), shown, moving)


def _table(jobs: Jobs, wanted: str, states: Sequence[str], shown: str, moving: frozenset[str]) -> None:
    found = jobs.search(wanted) if wanted.strip() else jobs.all()
    rows = rows_of(found[:MOST_JOBS])
    if CHOSEN in st.session_state or any((row["id"] in moving) != (row["word"] in ACTIVE) for row in rows):
        # Another job was chosen, or something began or ended: all of the page is about something else now.
        st.rerun()
    rows = [row for row in rows if not states or row["word"] in states]
    if not rows:
        boxes.empty("No job is like that.", ":material/filter_alt_off:")
        return
    # The table's own buttons float above its right end: there is nothing below them.
    st.caption(counted(rows))
    ids = [row["id"] for row in rows]
    # A selection is a position: with other jobs it is another table.
    key = f"jobs_rows_{sha256('/'.join(ids).encode()).hexdigest()[:12]}"
    st.dataframe(
        [{**row, "shown": SHOWN if row["id"] == shown else ""} for row in rows],
        key=key,
        hide_index=True,
        placeholder="–",
        column_order=COLUMNS,
        column_config=_columns(),
        height="auto" if len(rows) <= ROWS_IN_SIGHT else PIXELS_IN_SIGHT,
        on_select=lambda: _selected(key, ids),
        selection_mode="single-cell",
        alt="Jobs, the newest first: state, name, progress, method, start, duration, output; click one to see it",
    )
    if len(found) > MOST_JOBS:
        st.caption(f"The {MOST_JOBS} newest of {len(found):,} jobs; the search finds the others.")


def _selected(key: str, ids: Sequence[str]) -> None:
    """A click anywhere in a row, or a step with the arrow keys."""
    cells = st.session_state[key]["selection"]["cells"]
    if cells and cells[0][0] < len(ids):
        st.session_state[CHOSEN] = ids[cells[0][0]]


def _columns() -> dict[str, Any]:
    column = st.column_config
    signs = [spelled(state) for state in LOOKS]
    return {
        "shown": column.TextColumn("", width=30, help="The job that is shown below."),
        "state": column.MultiselectColumn(options=signs, color=[look.paint for look in LOOKS.values()], width=112),
        "name": column.TextColumn(width=170),
        "progress": column.ProgressColumn(format="%d %%", min_value=0, max_value=100, width=95),
        "method": column.TextColumn(width=120),
        "started": column.DatetimeColumn(format="D MMM, HH:mm", width=105),
        "took": column.TextColumn(width=85),
        "output": column.TextColumn(width=150),
    }


def _output(job: Job) -> str:
    if job.kind == "sweep":
        return "points of a sweep"
    return f"Hub: {job.repository}" if job.repository and not job.keeps_weights else short_path(job.out)
