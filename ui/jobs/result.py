"""What a job left: its recipe, its files, the last of its events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import streamlit as st

from merging import Job, readable
from ui import boxes, draft
from ui.jobs.header import COMPOSE, browse_button
from ui.jobs.status import ACTIVE, PASSES, count, lasted, moment, of_bytes

Row = dict[str, Any]

MOST_FILES, MOST_EVENTS, EVENTS_READ = 1000, 200, 2000
POLL_SECONDS = 2.0


def show_recipe(job: Job) -> None:
    """The recipe's text and the command line."""
    text = job.recipe
    if not text.strip():
        boxes.empty("The recipe of this job is not there any more.")
        return
    st.code(text, language="yaml")
    with st.container(horizontal=True):
        if st.button("To Compose", key="jobs_compose", icon=":material/tune:", help="Go on with this recipe there."):
            draft.put(text)
            st.switch_page(COMPOSE)
        st.download_button(
            "Download recipe",
            text,
            "recipe.yaml",
            "application/yaml",
            key="jobs_recipe_file",
            icon=":material/download:",
            on_click="ignore",
        )
    boxes.command(*job.command[1:], label="This job on the command line")


def files_of(folder: Path) -> list[Row]:
    """The files in an output folder with their sizes, those of a running merge among them; by name."""
    try:
        found = [path for path in folder.rglob("*") if path.is_file()][:MOST_FILES]
    except OSError:
        return []
    rows = []
    for path in sorted(found):
        try:
            rows.append({"file": path.relative_to(folder).as_posix(), "size": path.stat().st_size})
        except OSError:
            continue
    return rows


def show_files(job: Job, later: Sequence[Job]) -> None:
    """Where the result is, its files and what they take on the disk."""
    st.code(str(job.out), language=None, wrap_lines=True)
    rows = files_of(job.out)
    if not rows:
        says = "No file is there yet." if job.state in ACTIVE else "There is no file: it was moved, or never written."
        boxes.empty(says, ":material/folder_off:")
        return
    if later:
        names = ", ".join(each.id for each in later)
        st.warning(boxes.plain(f"Written to later as well, by {names}: what is there is the last merge."))
    partial = any(row["file"].endswith(".partial") for row in rows)
    left, right = st.columns([3, 1])
    with left:
        st.dataframe(
            rows,
            hide_index=True,
            key="jobs_files",
            column_config={
                "file": st.column_config.TextColumn(width="large"),
                "size": st.column_config.NumberColumn(format="bytes"),
            },
            alt="Files of the result and their sizes",
        )
    right.metric("Files", f"{len(rows):,}")
    right.metric("Size", readable(sum(row["size"] for row in rows)))
    with right:
        browse_button(job, "jobs_browse_files")
    if partial:
        st.caption("Files end in .partial until the merge is whole.")
    else:
        boxes.command("verify", str(job.out), label="Check it on the command line")


def wrote_later(job: Job, found: Sequence[Job]) -> list[Job]:
    """Jobs handed in later that wrote into the same folder."""
    return [
        each
        for each in found
        if each.kind == "merge" and each.out == job.out and each.number > job.number and each.started
    ]


def event_says(event: Mapping[str, Any]) -> str:
    """An event as a sentence; of an unknown kind, its fields."""

    def number(name: str) -> int:
        value = event.get(name)
        return int(value) if isinstance(value, int | float) else 0

    match event.get("event"):
        case "Started":
            return f"process {event.get('pid')} on {event.get('host')}"
        case "Waiting":
            return f"number {event.get('position')} in the line"
        case "RunStarted":
            kept = f"; {number('kept_tensors'):,} tensors are there from before" if number("kept_tensors") else ""
            to_move = f"reads {readable(number('read_bytes'))}, writes {readable(number('written_bytes'))}"
            return f"{number('tensors'):,} tensors; {to_move}{kept}"
        case "PassStarted":
            return f"{PASSES.get(str(event.get('kind')), 'working on')} {number('tensors'):,} tensors"
        case "Progress":
            read = of_bytes(number("read_bytes"), number("total_read_bytes"))
            written = of_bytes(number("written_bytes"), number("total_written_bytes"))
            kind = str(event.get("pass") or "")
            moved = f"{written} sent" if kind == "push" else f"{read} read, {written} written"
            return f"{count(number('tensors_done'), number('tensors'), kind)}; {moved}"
        case "Warned":
            return str(event.get("text"))
        case "Sealed":
            files = event.get("files") or ()
            return f"whole: {len(files)} files of weights, in {lasted(float(number('seconds')))}"
        case "Point":
            mean = event.get("mean")
            values = event.get("values")
            spelled = ", ".join(f"{k} {v}" for k, v in values.items()) if isinstance(values, dict) else ""
            return f"{spelled}: {mean:.4g}" if isinstance(mean, float) else f"{spelled}: {event.get('error')}"
        case "Failed":
            return str(event.get("what") or f"{len(event.get('problems') or [])} problems")
        case "Ended":
            return str(event.get("state"))
    return _hub_says(event)


def _hub_says(event: Mapping[str, Any]) -> str:
    """What is told of the way to the Hub, as a sentence; of an unknown kind, its fields."""
    name = event.get("path")
    match event.get("event"):
        case "Delivering":
            before = _bytes(event, "kept_bytes")
            there = f", {before} of it there from before" if event.get("kept_bytes") else ""
            return f"{_bytes(event, 'nbytes')} to {event.get('place')}, {event.get('way')}{there}"
        case "Delivered":
            return f"{name}: {_bytes(event, 'nbytes')} sent"
        case "Sent":
            return f"{name}: {_bytes(event, 'size')} {'is there already' if event.get('held') else 'sent'}"
        case "Published":
            return f"commit {str(event.get('commit'))[:12]} of {event.get('repository')}, compared file by file"
    rest = {key: value for key, value in event.items() if key not in ("time", "event")}
    return json.dumps(rest, default=str)


def _bytes(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    return readable(int(value) if isinstance(value, int | float) else 0)


def event_rows(events: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Events as lines, the last one first; of progress only where it stands before something else happens."""
    kept = [
        event
        for event, after in zip(events, [*events[1:], {}], strict=True)
        if event.get("event") != "Progress" or after.get("event") != "Progress"
    ]
    return [
        {"time": _clock(event.get("time")), "event": str(event.get("event")), "says": event_says(event)}
        for event in reversed(kept[-MOST_EVENTS:])
    ]


def show_published(job: Job) -> None:
    """What a push has done so far, and the command line."""
    told = job.published
    if told is not None:
        address = str(told.get("pull_request") or told.get("url") or "")
        st.success(f"Every file of commit {str(told.get('commit'))[:12]} was compared with what was sent.")
        st.code(address, language=None, wrap_lines=True)
    sent = [event for event in job.events(EVENTS_READ) if event.get("event") == "Sent"]
    if sent:
        rows = [
            {"file": each.get("path"), "size": each.get("size"), "there": "already" if each.get("held") else "by this"}
            for each in sent
        ]
        st.dataframe(
            rows,
            hide_index=True,
            key="jobs_sent",
            column_config={
                "file": st.column_config.TextColumn(width="large"),
                "size": st.column_config.NumberColumn(format="bytes"),
            },
            alt="Large files that the Hub has",
        )
        st.caption("Small files go with the commit.")
    elif told is None:
        boxes.empty("No large file has been sent yet.", ":material/cloud_upload:")
    boxes.command(*job.command[1:], label="This job on the command line")


def _clock(seconds: object) -> str:
    try:
        return moment(datetime.fromtimestamp(float(seconds)).astimezone())  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, OSError):
        return "–"


def show_events(job: Job) -> None:
    """The last events; they come in while the job is at work."""
    st.fragment(_events, run_every=POLL_SECONDS if job.state in ACTIVE else None)(job)
    st.caption(f"All of them: {boxes.plain(job.folder / 'events.jsonl')}")
    boxes.command("jobs", "show", job.id, "--follow")


def _events(job: Job) -> None:
    rows = event_rows(job.events(EVENTS_READ))
    if not rows:
        boxes.empty("Nothing has happened yet.")
        return
    st.dataframe(
        rows,
        hide_index=True,
        key="jobs_events",
        column_config={"time": {"width": 140}, "event": {"width": 110}, "says": {"width": "large"}},
        alt="Events of the job, the last first",
    )
