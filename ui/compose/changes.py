"""Changing the draft from a widget: what a callback calls, and what it then has to say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from merging import write_yaml
from ui import boxes, draft
from ui.compose.form import Data, with_method
from ui.compose.reading import absolute, loses_comments, read, rewritten

_NOTICE = "compose_notice"
COMMENTS_LOST = "The text could not be changed as it was written: it is written anew, without its comments."


def change(edit: Callable[[Data], Data], says: str = "") -> None:
    """Make a change of the form in the draft."""
    reading = read(draft.text())
    if reading.data is None:
        return
    data = edit(reading.data)
    text = rewritten(reading, data)
    anew = loses_comments(reading.text, text) and text == write_yaml(data)
    _put(text, " ".join(each for each in (says, COMMENTS_LOST if anew else "") if each))


def choose_method(name: str) -> None:
    """Take another method, and say what it has no use for."""
    reading = read(draft.text())
    if reading.data is not None:
        lost = with_method(reading.data, name)[1]
        says = f"Left out, because {name} has no use for them: {', '.join(lost)}." if lost else ""
        change(lambda data: with_method(data, name)[0], says)


def take(text: str, folder: Path | None = None, says: str = "") -> None:
    """Take a whole text as the draft; its models are looked for in `folder`, and are named by whole paths then."""
    _put(absolute(text, folder) if folder else text, says)


def undo() -> None:
    """Go back by one change."""
    draft.undo()
    st.session_state[_NOTICE] = ""


def _put(text: str, says: str) -> None:
    draft.put(text)
    st.session_state[_NOTICE] = f"{says} Undo brings it back." if says else ""


def show_notice() -> None:
    """What the last change had to say."""
    if says := st.session_state.get(_NOTICE):
        st.info(boxes.plain(says), icon=":material/info:")
