"""What every page says in the same way: errors, empty places, the command that does the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import streamlit as st

from merging import MergingError, Problems

# What Markdown would read as markup; names of tensors, files and models come from strangers.
_MARKUP = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]()<>#+-!|$~:"} | {"\n": " ", "\r": " ", "\0": " "})


def plain(text: object) -> str:
    """Any text as Markdown that shows it literally, on one line."""
    return str(text).translate(_MARKUP)


def heading(title: str, says: str) -> None:
    """The title of a page and the sentence that says what it is for."""
    st.title(title, anchor=False)
    st.caption(says)


def problem(error: MergingError) -> None:
    """An error as a box: what is wrong, where, what it must be, how to mend it."""
    for each in error.problems if isinstance(error, Problems) else (error,):
        lines = [f"**{plain(each.what)}**"]
        lines += [plain(each.where)] if each.where else []
        lines += [f"Must be: {plain(each.must_be)}"] if each.must_be else []
        lines += [f"Mend it: {plain(each.fix)}"] if each.fix else []
        st.error("  \n".join(lines), icon=":material/error:")


@contextmanager
def problems_shown() -> Iterator[None]:
    """Show what goes wrong in the block as boxes, and stop the page there."""
    try:
        yield
    except MergingError as error:
        problem(error)
        st.stop()


def facts(cells: Sequence[tuple[str, str]]) -> None:
    """Numbers side by side, each under its name."""
    for column, (label, value) in zip(st.columns(len(cells)), cells, strict=True):
        column.metric(label, value)


def empty(says: str, icon: str = ":material/inbox:") -> None:
    """A place where nothing is yet, and how to fill it."""
    st.info(says, icon=icon)


def command(*words: str, label: str = "The same on the command line") -> None:
    """The command line that does what the page does."""
    with st.expander(label, icon=":material/terminal:"):
        st.code(shlex.join(["merging", *words]), language="bash", wrap_lines=True)
