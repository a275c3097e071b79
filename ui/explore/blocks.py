"""Weights by layer and part: a preset, a selection with its share, or the line of text that they write."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import streamlit as st

from merging import BLOCK_PRESETS, MergingError, read_block_weights
from ui import boxes
from ui.explore.scene import Scene

PARTS = ("attention", "mlp", "norm", "embedding", "head", "other")
EVERY = "all models"
MOST_SHARE, STEP = 1.5, 0.05


def ask_blocks(scene: Scene, names: Sequence[str]) -> tuple[str, ...]:
    """Shares of the weights by layer and part, as a line of text for all models, and for one where it has its own."""
    with st.expander("By layer and part", icon=":material/layers:"):
        whom = st.selectbox("Of", [EVERY, *names], key="explore_blocks_of", persist_state="session")
        key = _line_key(whom)
        _ask_preset(key)
        _ask_item(scene, key)
        line = st.text_input(
            "Shares of the weight",
            key=key,
            placeholder="the same everywhere",
            help="For example `0,1` along the layers, `attention=0.5; mlp=1`, `0-1 mlp=0`; later items are laid over "
            "earlier ones.",
            persist_state="session",
        )
        fault = _fault(line, scene.tensors)
        if fault is not None:
            boxes.problem(fault)
    every = st.session_state.get(_line_key(EVERY), "")
    lines = tuple(str(st.session_state.get(_line_key(name), "") or every) for name in names)
    return tuple(line if _fault(line, scene.tensors) is None else "" for line in lines)


def _line_key(whom: str) -> str:
    return f"explore_line_{whom}"


def _ask_preset(key: str) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Preset",
            list(BLOCK_PRESETS),
            index=None,
            format_func=lambda name: f"{name.replace('_', ' ')} · {BLOCK_PRESETS[name]}",
            key=f"{key}_preset",
            placeholder="a curve over the layers",
            on_change=_take_preset,
            args=(key,),
        )
        st.button("Clear", key=f"{key}_clear", on_click=_put, args=(key, ""))


def _take_preset(key: str) -> None:
    name = str(st.session_state.get(f"{key}_preset"))
    if name in BLOCK_PRESETS:
        _put(key, BLOCK_PRESETS[name])


def _put(key: str, line: str) -> None:
    st.session_state[key] = line


def _ask_item(scene: Scene, key: str) -> None:
    """One selection and its share, added to the line."""
    parts = st.pills("Parts", PARTS, selection_mode="multi", key="explore_block_parts", persist_state="session")
    last = max((each.layer for each in scene.tensors if each.layer is not None), default=0)
    span = (0, 0)
    if last:
        span = st.slider("Layers", 0, last, (0, last), key="explore_block_layers", persist_state="session")
    share = st.slider("Share", 0.0, MOST_SHARE, 0.5, STEP, key="explore_block_share", persist_state="session")
    item = block_item(parts, None if span == (0, last) else span, share)
    st.button(f"Add `{item}`", key="explore_block_add", on_click=_add, args=(key, item))


def block_item(parts: Sequence[str], span: tuple[int, int] | None, share: float) -> str:
    """An item of a line of block weights.

    >>> block_item(["mlp"], (0, 1), 0.5), block_item([], None, 0.0)
    ('0-1 mlp=0.5', '0')
    """
    words = [f"{span[0]}-{span[1]}" if span[0] < span[1] else f"{span[0]}"] if span else []
    words += list(parts)
    return f"{' '.join(words)}={share:g}" if words else f"{share:g}"


def _add(key: str, item: str) -> None:
    line = str(st.session_state.get(key, "")).strip()
    _put(key, f"{line}; {item}" if line else item)


@lru_cache(maxsize=64)
def _fault(line: str, tensors: tuple[Any, ...]) -> MergingError | None:
    try:
        read_block_weights(line, tensors)
    except MergingError as error:
        return error
    return None
