"""Merging straight to the Hub: where the weights shall go while they are made, and what would happen there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from merging import MergingError, Recipe, check, foresee, read_recipe, readable
from ui import boxes, remote
from ui.compose.preflight import GiB, Wishes, sources_of
from ui.compose.reading import absolute, lines
from ui.compose.submitting import submit
from ui.places import stamp
from ui.publishing import Wish, ask_destination, headline, show_foreseen, show_notices, suggested, with_account

OPEN = "compose_to_hub"
STREAMED, KEPT = "on the Hub alone", "here as well"
WAYS = {
    STREAMED: "Sent while they are made: this machine needs no room for them, and the folder gets everything else.",
    KEPT: "Written into the folder whole, and sent from there.",
}
# What is shown of the repository must be what is there when the merge begins.
LASTS_SECONDS = 30.0
MOST_NAMES = 200


def to_hub_button(good: bool) -> None:
    """Open the dialog."""
    says = "" if remote.is_allowed() else f"This workbench does not ask the Hub ({remote.SWITCH}=off)."
    if st.button(
        "Merge to the Hub",
        key="compose_hub_start",
        icon=":material/cloud_upload:",
        disabled=bool(says) or not good,
        help=boxes.plain(says) or "Send the weights to the Hub while they are made; what would happen is shown first.",
        width="stretch",
    ):
        st.session_state[OPEN] = True


def show_to_hub(text: str, recipe: Recipe | None, wishes: Wishes, good: bool) -> None:
    """The dialog, while it is open and the recipe can be carried out."""
    if st.session_state.get(OPEN) and good and recipe is not None:
        _dialog(text, recipe, wishes)


def _closed() -> None:
    st.session_state.pop(OPEN, None)


@st.dialog("Merge to the Hub", width="large", icon=":material/cloud_upload:", on_dismiss=_closed)
def _dialog(text: str, recipe: Recipe, wishes: Wishes) -> None:
    st.caption("Nothing is visible there before one commit at the very end, which is then compared with what was sent.")
    with_account(lambda account: _asked(text, recipe, wishes, account))


def _asked(text: str, recipe: Recipe, wishes: Wishes, account: Any) -> None:
    wish = ask_destination(account, suggested(account.name, Path(wishes.out)))
    way = st.radio("Weights stay", list(WAYS), key="publish_way", captions=list(WAYS.values()), horizontal=True)
    if not wish.is_whole:
        boxes.empty("Name a repository, and a branch where you chose one.")
        return
    found = show_foreseen(lambda: foreseen(text, recipe, wishes, wish), _show)
    options = [*wishes.options(), *wish.run_options(), *(["--keep-weights"] if way == KEPT else [])]
    if st.button(
        "Merge and propose" if wish.pull_request else "Merge and publish",
        key="publish_start",
        type="primary",
        icon=":material/cloud_upload:",
        disabled=found is None,
    ):
        _closed()
        submit(text, wishes, options, token=remote.typed_token())
    boxes.command("run", "recipe.yaml", wishes.out or "OUT", *options)


def foreseen(text: str, recipe: Recipe, wishes: Wishes, wish: Wish) -> Any:
    """What `merging run --push` would find. Raises StillAsking, and all that is in the way."""
    asked, sources = remote.hub(), sources_of(recipe)
    held = remote.held(sources, wishes.fetch)
    whole = read_recipe(lines(absolute(text, Path.cwd())))

    def look() -> Any:
        report = check(
            whole,
            memory=round(wishes.memory_gib * GiB),
            shard_bytes=round(wishes.shard_gb * 1e9),
            checkpoints=held,
        )
        if report.plan is None:
            raise MergingError("the recipe cannot be carried out any more", fix="look at its problems on the page")
        return foresee(
            report.plan,
            wish.repository,
            branch=wish.branch,
            pull_request=wish.pull_request,
            private=wish.private,
            hub=asked,
        )

    key = ("foresee", text, wishes, wish, tuple(map(stamp, sources)), asked)
    return remote.questions().ask(key, look, wish.repository, lasts=LASTS_SECONDS)


def foreseen_lines(found: Any) -> list[str]:
    """Where it goes, as whom, what is sent, and what becomes of a README that is there.

    Sidecars and card are made at the end, and named here without a size.
    """
    after = f", after commit {found.parent[:12]}" if found.parent else ""
    count = len(found.weights)
    files = "one file" if count == 1 else f"{count:,} files"
    lines_ = [headline(found), f"Weights: {files}, {readable(found.nbytes)}, as {boxes.plain(found.account)}{after}"]
    lines_.append("With them: config, tokenizer, record, what every tensor got, and a card.")
    if found.card == "MERGE.md":
        lines_.append("README.md there was written by a person: its text stays, and the card goes to MERGE.md.")
    return lines_


def _show(found: Any) -> None:
    st.markdown("  \n".join(foreseen_lines(found)))
    for title, names, icon in (
        ("Replaced in the repository", found.replaced, ":material/sync_alt:"),
        ("Stays as it is in the repository", found.kept, ":material/inventory_2:"),
    ):
        if names:
            with st.expander(f"{title}: {len(names):,}", icon=icon):
                st.markdown("\n".join(f"- {boxes.plain(name)}" for name in names[:MOST_NAMES]))
    show_notices(found.notices)
