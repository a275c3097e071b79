"""Handing the recipe in as a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from merging import Jobs, MergingError, read_recipe
from ui import boxes, remote
from ui.compose.preflight import Wishes, sources_of
from ui.compose.reading import absolute, lines

# The folder that was taken last: the next merge is offered another one.
USED = "compose_out_used"


def submit(text: str, wishes: Wishes, options: Sequence[str], token: str | None = None) -> None:
    """Hand the merge in and go where it can be watched."""
    name = str(st.session_state.get("compose_name") or "")
    whole = absolute(text, Path.cwd())
    try:
        # Judged once more, by the headers that were read already.
        held = remote.held(sources_of(read_recipe(lines(whole))), wishes.fetch)
        job = Jobs().submit(
            whole, wishes.out, folder=Path.cwd(), name=name, options=options, checkpoints=held, token=token
        )
    except MergingError as error:
        boxes.problem(error)
        return
    st.session_state[USED] = wishes.out
    st.switch_page("views/jobs.py", query_params={"job": job.id})
