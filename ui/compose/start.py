"""Where the merge goes, how it is carried out, and its start as a job."""

from __future__ import annotations

import re
from pathlib import Path

import streamlit as st

from merging import Recipe
from ui import boxes
from ui.compose.preflight import WAYS, Wishes
from ui.compose.submitting import USED, submit
from ui.compose.to_hub import show_to_hub, to_hub_button
from ui.places import roots

OUT = "compose_out_folder"


def ask_wishes(distant: bool) -> Wishes:
    """Output folder and options; `distant` where a model is on the Hub."""
    held = st.session_state.get(OUT)
    if not held or held == st.session_state.get(USED):
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
    while found.exists() or str(found) == st.session_state.get(USED):
        number += 1
        found = folder.with_name(f"{stem}-{number}")
    return found


def show_start(text: str, recipe: Recipe | None, wishes: Wishes, good: bool, sendable: bool) -> None:
    """The buttons, and the command line that does the same; `sendable` says whether it can be merged to the Hub."""
    start, hub, download = st.columns(3)
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
    with hub:
        to_hub_button(sendable)
    show_to_hub(text, recipe, wishes, sendable)
    if asked:
        submit(text, wishes, wishes.options())
    boxes.command("run", "recipe.yaml", wishes.out or "OUT", *wishes.options())
