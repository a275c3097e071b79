"""The recipe being written: its YAML, kept for the session, and the texts before the last few changes."""

from __future__ import annotations

import streamlit as st

_TEXT, _BEFORE = "draft_text", "draft_before"
# A person undoes a slip, not an afternoon; each text is a few kB.
MOST_KEPT = 10


def text() -> str:
    """The draft; empty where nothing was written yet."""
    return str(st.session_state.get(_TEXT, ""))


def put(recipe: str) -> None:
    """Make this text the draft; `undo` brings the one before back."""
    if recipe == text():
        return
    if text():
        st.session_state[_BEFORE] = [*st.session_state.get(_BEFORE, []), text()][-MOST_KEPT:]
    st.session_state[_TEXT] = recipe


def can_undo() -> bool:
    """Whether there is a text to go back to."""
    return bool(st.session_state.get(_BEFORE))


def undo() -> None:
    """Go back to the text before the last change."""
    before = st.session_state.get(_BEFORE, [])
    if before:
        st.session_state[_BEFORE], st.session_state[_TEXT] = before[:-1], before[-1]
