"""Where the merge goes, how it is carried out, and its start as a job."""

from __future__ import annotations

import re
from pathlib import Path

import streamlit as st

from merging import Jobs, MergingError, read_recipe
from ui import boxes, remote
from ui.compose.preflight import WAYS, Wishes, sources_of
from ui.compose.reading import absolute
from ui.places import roots

OUT, _USED = "compose_out_folder", "compose_out_used"


def ask_wishes(distant: bool) -> Wishes:
    """Output folder and options; `distant` where a model is on the Hub."""
    held = st.session_state.get(OUT)
    if not held or held == st.session_state.get(_USED):
        st.session_state[OUT] = str(fresh(Path(held or roots()[0] / "merged")))
    out = st.text_input("Output folder", key=OUT, persist_state="session", help="A new or empty folder in the roots.")
    overwrite = st.checkbox(
        "Overwrite what is in it",
        key="compose_overwrite",
        persist_state="session",
        help="Deletes what the folder holds.",
    )
    return Wishes(_placed(out), overwrite, *_ask_options(distant))


def _placed(out: str) -> str:
    """The whole path of what was typed; as it is where it names no home that there is."""
    try:
        return str(Path(out).expanduser().absolute()) if out else ""
    except RuntimeError:
        return out


def _ask_options(distant: bool) -> tuple[float, float, int | None, str]:
    """Memory in GiB, shard size in GB, workers, how models on the Hub are fetched."""
    with st.expander("Options", icon=":material/settings:"):
        first, second, third = st.columns(3)
        memory = first.number_input(
            "Memory in GiB",
            0.0625,
            1024.0,
            Wishes.memory_gib,
            0.5,
            format="%g",
            key="compose_memory",
            persist_state="session",
            help="Bound of the engine's buffers.",
        )
        shard = second.number_input(
            "Shard size in GB",
            0.001,
            1000.0,
            Wishes.shard_gb,
            0.5,
            format="%g",
            key="compose_shard",
            persist_state="session",
            help="Largest size of an output file.",
        )
        workers = third.number_input(
            "Workers",
            1,
            256,
            None,
            key="compose_workers",
            persist_state="session",
            placeholder="as many as fit",
        )
        st.text_input("Name of the job", key="compose_name", persist_state="session", placeholder="optional")
    return float(memory), float(shard), workers, _ask_fetch() if distant else Wishes.fetch


def _ask_fetch() -> str:
    """How the bytes of models on the Hub are had."""
    return str(
        st.radio(
            "Models on the Hub are fetched as",
            list(WAYS),
            key="compose_fetch",
            captions=[way.says for way in WAYS.values()],
            persist_state="session",
        )
    )


def fresh(folder: Path) -> Path:
    """This folder, or the first of its name with a number that no merge was sent to yet."""
    stem, number, found = re.sub(r"-\d+$", "", folder.name), 1, folder
    while found.exists() or str(found) == st.session_state.get(_USED):
        number += 1
        found = folder.with_name(f"{stem}-{number}")
    return found


def show_start(text: str, wishes: Wishes, good: bool) -> None:
    """The buttons, and the command line that does the same."""
    start, download = st.columns(2)
    asked = start.button(
        "Start merge",
        key="compose_start",
        type="primary",
        icon=":material/play_arrow:",
        disabled=not good,
        width="stretch",
    )
    download.download_button(
        "Download recipe",
        text,
        "recipe.yaml",
        "application/yaml",
        key="compose_download",
        icon=":material/download:",
        width="stretch",
        disabled=not text.strip(),
        on_click="ignore",
    )
    if asked:
        _start(text, wishes)
    boxes.command("run", "recipe.yaml", wishes.out or "OUT", *wishes.options())


def _start(text: str, wishes: Wishes) -> None:
    """Hand the merge in and go where it can be watched."""
    name = str(st.session_state.get("compose_name") or "")
    whole = absolute(text, Path.cwd())
    try:
        # Judged once more, by the headers that were read already.
        held = remote.held(sources_of(read_recipe(whole if "\n" in whole else f"{whole}\n")), wishes.fetch)
        job = Jobs().submit(whole, wishes.out, folder=Path.cwd(), name=name, options=wishes.options(), checkpoints=held)
    except MergingError as error:
        boxes.problem(error)
        return
    # The folder is taken from now on: the next merge is offered another one.
    st.session_state[_USED] = wishes.out
    st.switch_page("views/jobs.py", query_params={"job": job.id})
