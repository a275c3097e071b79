"""Models on the Hub, for pages: which names mean it, and their headers, asked for in the background."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import streamlit as st

from merging import Checkpoint, Hub, MergingError, find_source, hub_account, open_source, search_hub
from ui import boxes
from ui.questions import Questions, StillAsking

# "off" keeps the workbench from asking the Hub for anything.
SWITCH = "MERGING_UI_HUB"
# A token that somebody typed on a page: in the server's memory for this session, and nowhere else.
_TOKEN = "hub_token"
# That this run of a page went on without an answer, which may have come a moment later.
_MISSED = "hub_missed"
POLL_SECONDS = 1.0


def is_allowed() -> bool:
    """Whether the workbench may talk to the Hub."""
    return os.environ.get(SWITCH, "").strip().lower() not in ("off", "0", "no", "false")


def repositories(source: str) -> tuple[str, ...]:
    """The repositories that a source means, as `owner/name` or `owner/name@revision`; none for what lies on disk."""
    try:
        found = find_source(source)
    except MergingError:
        return ()
    return tuple(str(place) for place in found.places if not isinstance(place, Path))


def is_remote(source: str) -> bool:
    """Whether opening a source asks the Hub."""
    return bool(repositories(source))


@st.cache_resource
def questions() -> Questions:
    """What this server has asked the Hub."""
    return Questions()


def hub() -> Hub:
    """The Hub of the environment, with the token that was typed in this session if there is one."""
    found = Hub.from_environment()
    token = str(st.session_state.get(_TOKEN) or "")
    return replace(found, token=token) if token else found


def keep_token(token: str) -> None:
    """Keep a token for this session; an empty one is forgotten."""
    if token:
        st.session_state[_TOKEN] = token
    else:
        st.session_state.pop(_TOKEN, None)


def typed_token() -> str | None:
    """The token that was typed in this session."""
    return str(st.session_state[_TOKEN]) if st.session_state.get(_TOKEN) else None


def begin(*sources: str) -> None:
    """Have the headers of all these asked for at the same time, where they are on the Hub."""
    for source in dict.fromkeys(sources):
        if is_remote(source):
            questions().begin(_key(source), partial(_open, source))


def opened(source: str) -> Checkpoint:
    """A source as a checkpoint, its headers read; of the Hub's, the ones that were read in the last minutes.

    Only bytes that are read are fetched, and nothing lies on disk. Raises StillAsking and what `open_source` raises.
    """
    if not is_remote(source):
        return open_source(source)
    try:
        return questions().ask(_key(source), partial(_open, source), source)
    except StillAsking:
        st.session_state[_MISSED] = True
        raise


def _key(source: str) -> Any:
    return "headers", source, _whose(Hub.from_environment())


def _open(source: str) -> Checkpoint:
    return open_source(source, fetch="ranges")


def as_fetched(checkpoint: Checkpoint, fetch: str) -> Checkpoint:
    """The same headers, of a checkpoint whose bytes would be had in another way; it is for planning only."""
    found: Any = copy(checkpoint)
    if hasattr(found, "fetch"):
        found.fetch = fetch
    # Of an adapter or a task of a store, what it is made of.
    for part in ("base", "held"):
        if hasattr(found, part):
            setattr(found, part, as_fetched(getattr(found, part), fetch))
    return found  # type: ignore[no-any-return]


def held(sources: Iterable[str], fetch: str) -> dict[str, Checkpoint]:
    """Those of the sources that are on the Hub, opened, as their bytes would be had. Raises like `opened`."""
    return {source: as_fetched(opened(source), fetch) for source in sources if is_remote(source)}


def commits(source: str) -> tuple[str, ...]:
    """What a source of the Hub is now: its repositories at their commits. Raises like `opened`."""
    return tuple(f"{pinned.repository}@{pinned.commit}" for pinned in opened(source).pinned)  # type: ignore[attr-defined]


def _whose(asked: Hub) -> tuple[str, str, bool]:
    """Who asks which Hub: answers are kept under this, and a token is not kept with them."""
    return asked.endpoint, sha256((asked.token or "").encode()).hexdigest(), asked.offline


def searched(text: str) -> Any:
    """What the Hub finds for a text. Raises HubError, StillAsking."""
    asked = Hub.from_environment()
    return questions().ask(("search", text, _whose(asked)), lambda: search_hub(text, asked), f"a search for {text!r}")


def account() -> Any:
    """Whose token it is that would publish; None without one. Raises HubError, StillAsking."""
    asked = hub()
    return questions().ask(("account", _whose(asked)), lambda: hub_account(asked), "whose token this is")


@contextmanager
def answers_shown() -> Iterator[None]:
    """Show what goes wrong in the block as boxes, or that the Hub is still being asked, and stop the page there."""
    try:
        yield
    except StillAsking:
        show_waiting()
        st.stop()
    except MergingError as error:
        boxes.problem(error)
        ask_again()
        st.stop()


def show_waiting(*sources: str) -> None:
    """While an answer is on its way, say so, and draw the page anew when it is there."""
    if st.session_state.pop(_MISSED, False) or questions().is_waiting():
        st.fragment(_look, run_every=POLL_SECONDS)(sources)


def _look(sources: tuple[str, ...]) -> None:
    asked = f" for {boxes.plain(', '.join(sources))}" if sources else ""
    st.info(f"Asking the Hub{asked}. The page can be used meanwhile.", icon=":material/hourglass_empty:")
    if not questions().is_waiting():
        st.rerun()


def ask_again(key: str = "hub_again") -> None:
    """A button that asks anew what was refused, where anything was."""
    if not questions().is_refused():
        return
    st.button(
        "Ask the Hub again",
        key=key,
        icon=":material/refresh:",
        on_click=questions().forget_refusals,
        help="What was refused is not asked again by itself for some seconds.",
    )
