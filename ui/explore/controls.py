"""The left side of the page: method, its settings, a slider for each model, weights of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from merging import Method, all_methods
from ui import boxes, fields
from ui.explore.blocks import ask_blocks
from ui.explore.scene import Scene
from ui.explore.wish import SCALE, WEIGHT, Wish, fitting, start_weight, takes_weights, weight_span

LINEAR = "task_arithmetic"
MOST_SCALE, STEP = 2.0, 0.05
# Where a parameter that has no default begins.
START_SHARE = 0.5


def weight_key(method: str, name: str) -> str:
    """The slider of a model; each method has its own, since a weight means something else in it."""
    return f"explore_weight_{method}_{name}"


def ask_wish(scene: Scene, base: str, models: tuple[str, ...]) -> Wish:
    """Draw the controls; what they say."""
    name = ask_method()
    method = all_methods()[name]
    kept = fitting(method, models)
    names = scene.names[: len(kept)]
    if len(kept) < len(models):
        st.caption(f"{boxes.plain(name)} takes {len(kept)}: the first of the models chosen.")
    shared = _ask_shared(method)
    weights = _ask_weights(method, names)
    lines = ask_blocks(scene, names) if takes_weights(method) else ()
    return Wish(base, kept, name, weights, tuple(shared.items()), lines)


def ask_method() -> str:
    """The method's name."""
    st.session_state.setdefault("explore_method", LINEAR)
    return str(
        st.selectbox(
            "Method",
            fields.ordered_methods(),
            key="explore_method",
            format_func=fields.method_label,
            persist_state="session",
        )
    )


def _slide(label: str, key: str, span: tuple[float, float], start: float, within: Any = st) -> float:
    """A slider that buttons may move: its value is kept under its key alone."""
    st.session_state.setdefault(key, start)
    return float(within.slider(label, *span, step=STEP, key=key, persist_state="session"))


def _ask_shared(method: Method) -> dict[str, Any]:
    """Values that hold for all models and differ from the defaults."""
    found: dict[str, Any] = {}
    if SCALE in method.parameters:
        start = float(method.defaults().get(SCALE, 1.0))
        label = "lambda · scale of the sum"
        found[SCALE] = _slide(label, f"explore_{method.name}_{SCALE}", (0.0, MOST_SCALE), start)
    names = [name for name in fields.shared_names(method) + fields.own_names(method) if name not in (SCALE, WEIGHT)]
    first = [name for name in names if method.parameters[name].kind.is_share or name not in method.defaults()]
    rest = [name for name in names if name not in first]
    begin = {name: START_SHARE for name in first if name not in method.defaults()}
    key = f"explore_{method.name}"
    found |= fields.method_form(method, key, begin, names=first, columns=1)
    if rest:
        with st.expander("More settings", icon=":material/tune:"):
            found |= fields.method_form(method, key, names=rest, columns=1)
    return {name: value for name, value in found.items() if value != method.defaults().get(name)}


def _ask_weights(method: Method, names: Sequence[str]) -> tuple[float, ...]:
    if not takes_weights(method):
        return tuple(_ask_share(method, name) for name in names)
    start, span = start_weight(method), weight_span(method)
    keys = [weight_key(method.name, name) for name in names]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Weights**", width="stretch")
        st.button("Reset", key="explore_reset", on_click=_set_all, args=(keys, start), type="tertiary")
        st.button("Equal", key="explore_equal", on_click=_equal, args=(keys, start, span), type="tertiary")
    return tuple(_ask_weight(name, key, keys, start, span) for name, key in zip(names, keys, strict=True))


def _ask_share(method: Method, name: str) -> float:
    """Whether a model takes part, for methods that give it no weight: 1 or 0."""
    key = f"explore_with_{method.name}_{name}"
    st.session_state.setdefault(key, True)
    return float(st.checkbox(boxes.plain(name), key=key, persist_state="session"))


def _ask_weight(name: str, key: str, keys: list[str], start: float, span: tuple[float, float]) -> float:
    slider, only = st.columns([5, 1], vertical_alignment="center", gap="small")
    value = _slide(boxes.plain(name), key, span, start, slider)
    only.button(
        "only",
        key=f"{key}_only",
        help=f"Only {boxes.plain(name)}, with its whole task vector",
        on_click=_only,
        args=(keys, key),
        type="tertiary",
    )
    return value


def _set_all(keys: list[str], value: float) -> None:
    st.session_state.update(dict.fromkeys(keys, value))


def _equal(keys: list[str], start: float, span: tuple[float, float]) -> None:
    """All at the mean of what they are."""
    held = [float(st.session_state.get(key, start)) for key in keys]
    _set_all(keys, on_slider(sum(held) / len(held), span))


def _only(keys: list[str], chosen: str) -> None:
    _set_all(keys, 0.0)
    st.session_state[chosen] = 1.0


def on_slider(value: float, span: tuple[float, float]) -> float:
    """The nearest value that a slider can show."""
    return round(min(span[1], max(span[0], round(value / STEP) * STEP)), 4)


def take_over(wish: Wish, names: Sequence[str]) -> None:
    """Move all sliders to a wish; for callbacks, before any slider is drawn."""
    method = all_methods()[wish.method]
    st.session_state["explore_method"] = wish.method
    for name, weight in zip(names, wish.weights, strict=False):
        if takes_weights(method):
            st.session_state[weight_key(wish.method, name)] = on_slider(weight, weight_span(method))
        else:
            st.session_state[f"explore_with_{wish.method}_{name}"] = bool(weight)
    for name, value in wish.shared:
        shown = on_slider(value, (0.0, MOST_SCALE)) if name == SCALE else value
        st.session_state[f"explore_{wish.method}_{name}"] = shown
