"""What a recipe can begin with: nothing, an example on the bundled models, an earlier job, a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from merging import Jobs, MergingError, find_zoo, write_yaml
from ui import draft
from ui.compose.changes import take, undo
from ui.compose.form import DEFAULTS, Entry, Form, written

EMPTY = "merge_method: linear\n"
MOST_JOBS = 50
LARGEST_FILE_MB = 1


def first_text() -> str:
    """What a person who comes here first finds: two bundled models added to their base, or nothing."""
    try:
        zoo = find_zoo()
    except MergingError:
        return EMPTY
    models = tuple(Entry(str(path)) for path in list(zoo.fine_tunes.values())[:2])
    return write_yaml(written(Form("task_arithmetic", str(zoo.base), models, {"lambda": 0.4}, **DEFAULTS)))


def examples() -> dict[str, str]:
    """Texts of the bundled recipes that run on the bundled models, by name; paths written out."""
    try:
        zoo = find_zoo().folder
    except MergingError:
        return {}
    folders = [zoo.parent / name for name in ("recipes", "_recipes")]
    files = sorted(path for folder in folders if folder.is_dir() for path in folder.glob("*.yaml"))
    texts = {path.stem.replace("_", " "): path.read_text(encoding="utf-8") for path in files}
    return {name: text.replace("../zoo", str(zoo)) for name, text in texts.items() if "../zoo" in text}


def headline(text: str) -> str:
    """The first sentence of a recipe's first comment."""
    line = text.splitlines()[0].removeprefix("#").strip() if text.startswith("#") else ""
    return line.partition(": ")[0].partition(". ")[0].rstrip(".:")


def earlier() -> dict[str, str]:
    """Recipes of earlier jobs, the newest first, by what the job is called; each text once."""
    root = Jobs().root
    try:
        return _earlier(root, root.stat().st_mtime_ns)
    except OSError:
        return {}


# The time of the folder changes when a job comes or goes.
@st.cache_data(max_entries=4, show_spinner=False)
def _earlier(root: Path, changed: int) -> dict[str, str]:  # noqa: ARG001
    found: dict[str, str] = {}
    for job in Jobs(root).all()[:MOST_JOBS]:
        text = job.recipe
        if text and text not in found.values():
            told = " · ".join(each for each in (job.name, job.method, job.id[-3:]) if each)
            found[f"{job.created.astimezone():%d %b %H:%M} · {told}"] = text
    return found


def show_beginnings() -> None:
    """The row of buttons over the page."""
    with st.container(horizontal=True, gap="small"):
        st.button("New", key="compose_new", icon=":material/add:", on_click=take, args=(EMPTY,))
        with st.popover("Open", icon=":material/folder_open:", key="compose_open"):
            _choice(
                "Example", "compose_example", {f"{name} · {headline(text)}": text for name, text in examples().items()}
            )
            _choice("Recipe of an earlier job", "compose_earlier", earlier())
            st.file_uploader(
                "Recipe from a file",
                ["yaml", "yml"],
                key="compose_file",
                on_change=_opened,
                max_upload_size=LARGEST_FILE_MB,
            )
        st.button("Undo", key="compose_undo", icon=":material/undo:", on_click=undo, disabled=not draft.can_undo())


def _choice(label: str, key: str, texts: dict[str, str]) -> None:
    """A list whose choice becomes the draft."""
    st.session_state[key] = None

    def chosen() -> None:
        if name := st.session_state[key]:
            take(texts[name])

    hint = "choose" if texts else "none yet"
    st.selectbox(label, list(texts), index=None, key=key, on_change=chosen, placeholder=hint, disabled=not texts)


def _opened() -> None:
    uploaded: Any = st.session_state.get("compose_file")
    if uploaded is not None:
        take(uploaded.getvalue().decode("utf-8", "replace"), Path.cwd())
