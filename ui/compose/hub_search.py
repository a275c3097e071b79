"""Finding models on the Hub by name, and taking them into the recipe with a click."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias

import streamlit as st

from merging import MergingError, readable
from ui import boxes, remote
from ui.compose.changes import change
from ui.compose.fit import counted
from ui.compose.form import Data, with_key, with_model
from ui.questions import StillAsking

Edit: TypeAlias = Callable[[Data], Data]
# More letters tell models apart better than more rows.
LEAST_LETTERS = 2


def show_search(uses_base: bool) -> None:
    """The button and what it opens; nothing where the workbench does not ask the Hub."""
    if not remote.is_allowed():
        return
    drawer = st.popover("From the Hub", key="compose_hub", icon=":material/travel_explore:", on_change="rerun")
    # Nothing is asked for a closed drawer.
    if drawer.open:
        with drawer:
            _search(uses_base)


def _search(uses_base: bool) -> None:
    text = st.text_input(
        "Search the Hub",
        key="compose_hub_text",
        placeholder="part of a name, owner/ or owner/name",
        icon=":material/search:",
        persist_state="session",
    ).strip()
    if len(text) < LEAST_LETTERS:
        st.caption("Models with safetensors weights; adapters are marked, and need their base model before them.")
        return
    try:
        with st.spinner("Asking the Hub"):
            found = remote.searched(text)
    except StillAsking:
        st.caption(":material/hourglass_empty: The Hub has not answered yet.")
        st.button("Look again", key="compose_hub_look", icon=":material/refresh:")
        return
    except MergingError as error:
        st.caption(f":material/cloud_off: {boxes.plain(error.what)}. Names can be typed all the same.")
        remote.ask_again("compose_hub_again")
        return
    if not found:
        boxes.empty("The Hub knows no model with safetensors weights of this name.", ":material/search_off:")
    for i, each in enumerate(found):
        _row(i, each, uses_base)


def _row(i: int, each: Any, uses_base: bool) -> None:
    """A repository, what the Hub tells of it, and what can be done with it."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"compose_hub_row_{i}"):
        with st.container(gap=None):
            st.markdown(f"**{boxes.plain(each.id)}**")
            st.caption(boxes.plain(tells(each)))
        _button("Add", f"compose_hub_add_{i}", f"Add {each.id} to the models", lambda data: with_model(data, each.id))
        if uses_base:
            _button(
                "Base",
                f"compose_hub_base_{i}",
                f"Take {each.id} as the base model",
                lambda data: with_key(data, "base_model", each.id),
            )


def _button(label: str, key: str, tells_more: str, edit: Edit) -> None:
    st.button(label, key=key, help=boxes.plain(tells_more), on_click=change, args=(edit,))


def tells(each: Any, now: datetime | None = None) -> str:
    """What the Hub tells of a repository, in one line."""
    told = [
        "adapter" if each.adapter else "",
        f"{counted(each.entries)} entries" if each.entries else "",
        readable(each.nbytes) if each.nbytes else "",
        each.license or "no licence stated",
        f"{counted(each.downloads)} downloads",
        f"{counted(each.likes)} likes" if each.likes else "",
        f"changed {_age(each.modified, now)}" if each.modified else "",
        "gated" if each.gated else "",
        "private" if each.private else "",
    ]
    return " · ".join(filter(None, told))


def _age(then: datetime, now: datetime | None) -> str:
    """How long ago, in the largest unit that is full."""
    days = max(0, ((now or datetime.now(UTC)) - then).days)
    for unit, size in (("year", 365), ("month", 30), ("day", 1)):
        if days >= size:
            count = days // size
            return f"{count} {unit}{'s' if count != 1 else ''} ago"
    return "today"
