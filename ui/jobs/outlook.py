"""What a push would do, before it does: where it goes, which files, what stays, the card as it will be read."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from merging import push, readable
from ui import boxes, remote
from ui.publishing import Wish, headline, show_notices

# What is shown of the repository must be what is there when the push begins.
LASTS_SECONDS = 30.0
MOST_ROWS, ROWS_IN_SIGHT = 500, 7
_FRONT = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
# A picture in Markdown would be fetched from wherever it says; ours is at hand.
_PICTURE = re.compile(r"!(?=\[)")
_OURS = re.compile(r"!\[[^\]\n]*\]\(([\w.-]+\.svg)\)")
_COMMENT = re.compile(r"^<!--.*?-->[ \t]*$", re.MULTILINE | re.DOTALL)


def outlook_of(folder: Path, wish: Wish) -> Any:
    """What `merging push --dry-run` finds. Raises StillAsking, and all that is in the way."""
    asked = remote.hub()

    def look() -> Any:
        seen: list[Any] = []
        push(
            folder,
            wish.repository,
            branch=wish.branch,
            pull_request=wish.pull_request,
            private=wish.private,
            replace=wish.replace,
            dry_run=True,
            watch=seen.append,
            hub=asked,
        )
        return seen[0]

    changed = (folder / "merging.json").stat().st_mtime_ns
    key = ("push", folder, changed, replace(wish, message=""), asked)
    return remote.questions().ask(key, look, wish.repository, lasts=LASTS_SECONDS)


def show_outlook(outlook: Any) -> None:
    """All that a push would do: where, which files, what stays, what one should know, the card."""
    st.markdown("  \n".join(headlines(outlook)))
    rows = file_rows(outlook)
    st.dataframe(
        rows[:MOST_ROWS],
        hide_index=True,
        key="publish_files",
        height="auto" if len(rows) <= ROWS_IN_SIGHT else 290,
        column_config={
            "file": st.column_config.TextColumn(width="large"),
            "size": st.column_config.NumberColumn(format="bytes"),
        },
        alt="Files that would be published, their sizes, and whether they replace others",
    )
    for title, names, icon in (
        ("Deleted in the repository", outlook.stale, ":material/delete:"),
        ("Stays as it is in the repository", outlook.kept, ":material/inventory_2:"),
        ("Left out of the folder", outlook.manifest.left_out, ":material/block:"),
    ):
        if names:
            with st.expander(f"{title}: {len(names):,}", icon=icon, expanded=title.startswith("Deleted")):
                st.markdown("\n".join(f"- {boxes.plain(name)}" for name in names[:MOST_ROWS]))
    show_notices(outlook.notices)
    with st.expander("The card", icon=":material/article:", key="publish_card"):
        _card(outlook)


def headlines(outlook: Any) -> list[str]:
    """Where it goes, as whom, and what becomes of a README that is there."""
    lines = [headline(outlook)]
    after = f", after commit {outlook.parent[:12]}" if outlook.parent else ""
    count = len(outlook.manifest.entries)
    lines.append(f"{count:,} files, {readable(outlook.manifest.nbytes)}, as {boxes.plain(outlook.account)}{after}")
    paths = {entry.path for entry in outlook.manifest.entries}
    if "MERGE.md" in paths:
        lines.append("README.md there was written by a person: its text stays, and the card goes to MERGE.md.")
    elif "README.md" in outlook.replaced:
        lines.append("In README.md, what merging wrote is renewed; all other text stays.")
    return lines


def file_rows(outlook: Any) -> list[dict[str, Any]]:
    """The files in the order in which they are sent."""
    paths = {entry.path for entry in outlook.manifest.entries}
    there = dict.fromkeys(outlook.replaced, "is replaced")
    if "MERGE.md" in paths and "README.md" in there:
        there["README.md"] = "gets metadata alone"
    return [
        {"file": entry.path, "size": entry.size, "there": there.get(entry.path, "is new")}
        for entry in outlook.manifest.entries
    ]


def parted(card: str) -> tuple[str, list[str]]:
    """The metadata of a card, and its text, in turn with the names of pictures that stand beside it.

    Other pictures become links, and remarks in HTML are left out: nothing is shown that a reader would not see.

    >>> parted("---\\nlicense: mit\\n---\\n# One\\n![a](b.svg)\\ntwo ![c](http://d/e.png)")
    ('license: mit', ['# One\\n', 'b.svg', '\\ntwo [c](http://d/e.png)'])
    """
    front = _FRONT.match(card)
    text = _COMMENT.sub("", card[front.end() :] if front else card)
    pieces = _OURS.split(text)
    pieces[::2] = [_PICTURE.sub("", piece) for piece in pieces[::2]]
    return front[1] if front else "", pieces


def _card(outlook: Any) -> None:
    """The card as it will be read; foreign text in it is only ever text."""
    metadata, pieces = parted(outlook.card)
    if metadata:
        st.code(metadata, language="yaml")
    pictures = {entry.path: entry.content for entry in outlook.manifest.entries if entry.path.endswith(".svg")}
    for i, piece in enumerate(pieces):
        if i % 2 == 0:
            st.markdown(piece)
        elif (content := pictures.get(piece)) is not None:
            st.image(content.decode(), width="stretch")
