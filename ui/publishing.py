"""Putting something on the Hub, for pages: whose token it is, and where it shall go."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from merging import MergingError
from ui import boxes, remote
from ui.questions import StillAsking

MAIN, BRANCH, PULL = "main", "a branch", "a pull request"


@dataclass(frozen=True)
class Wish:
    """Where a merge shall go, and how."""

    repository: str
    branch: str | None = None
    pull_request: bool = False
    private: bool = True
    replace: bool = False
    message: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing that must be named."""
        return bool(self.repository) and self.branch != ""

    def options(self) -> list[str]:
        """As options of `merging push`."""
        words = ["--branch", self.branch] if self.branch else []
        words += ["--pr"] if self.pull_request else []
        words += [] if self.private else ["--public"]
        words += ["--replace"] if self.replace else []
        return words + (["--message", self.message] if self.message else [])

    def run_options(self) -> list[str]:
        """As options of `merging run`, which knows neither --replace nor --message."""
        words = ["--push", self.repository]
        words += ["--push-branch", self.branch] if self.branch else []
        words += ["--push-pr"] if self.pull_request else []
        return words + ([] if self.private else ["--push-public"])


def suggested(owner: str, folder: Path) -> str:
    """A name for a repository, after the folder.

    >>> suggested("ada", Path("/models/my merge (2)"))
    'ada/my-merge-2'
    """
    name = re.sub(r"[^A-Za-z0-9._]+", "-", folder.name).strip("-.")[:90]
    return f"{owner}/{name or 'merged'}"


def with_account(draw: Callable[[Any], None]) -> None:
    """Draw something for the account whose token there is; without one, ask for it; without an answer, say so."""
    try:
        account = account_or_field()
        if account is not None:
            if not account.may_write:
                st.warning(f"The token of {boxes.plain(account.name)} may only read.", icon=":material/lock:")
            draw(account)
    except StillAsking:
        st.info("The Hub has not answered yet.", icon=":material/hourglass_empty:")
        st.button("Look again", key="publish_look", icon=":material/refresh:")
    except MergingError as error:
        boxes.problem(error)
        st.button("Ask the Hub again", key="publish_again", on_click=remote.questions().forget_refusals)


def account_or_field() -> Any:
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


def ask_destination(account: Any, proposal: str) -> Wish:
    """Repository, branch or pull request, and visibility."""
    owners = ", ".join((account.name, *account.organisations)[:6])
    if "publish_repository" not in st.session_state:
        st.session_state["publish_repository"] = proposal
    name, where = st.columns([3, 2], vertical_alignment="bottom")
    repository = name.text_input("Repository", key="publish_repository", help=f"owner/name; yours: {owners}")
    place = where.segmented_control(
        "Commit to", (MAIN, BRANCH, PULL), default=MAIN, required=True, key="publish_where", width="stretch"
    )
    branch = st.text_input("Branch", key="publish_branch") if place == BRANCH else None
    private = st.toggle(
        "Private",
        value=True,
        key="publish_private",
        help="Of a repository that is made by this; one that is there stays as it is.",
    )
    return Wish(repository.strip(), branch.strip() if branch is not None else None, place == PULL, private)


def show_foreseen(look: Callable[[], Any], draw: Callable[[Any], None]) -> Any:
    """What would happen, in a frame, or what is in the way of it; returns what was found, None where nothing was.

    Raises StillAsking.
    """
    with st.container(border=True):
        try:
            with st.spinner("Looking what is there"):
                found = look()
            draw(found)
        except StillAsking:
            raise
        except MergingError as error:
            boxes.problem(error)
            return None
    return found


def headline(outlook: Any) -> str:
    """Where it goes, and who will see it there."""
    visibility = "private" if outlook.private else "public"
    state = f"a new {visibility} repository" if outlook.is_new else f"which is there, {visibility}, and stays so"
    return f"**{boxes.plain(outlook.target)}**, {state}"


def show_notices(notices: Any) -> None:
    """What the one who publishes should know: licences, gated and private sources."""
    if notices:
        st.markdown("**To know before**")
        st.markdown("\n".join(f"- {boxes.plain(notice.replace('`', ''))}" for notice in notices))
