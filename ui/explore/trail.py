"""The merges that were scored in this session: where they stood, how well they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from ui.explore.geometry import Plane, Row
from ui.explore.standing import Standing
from ui.explore.wish import Wish, wish_from

_KEY = "explore_trail"
MOST_MOVES = 60
# The last few are joined by a line: where the sliders came from.
JOINED = 8


def note(wish: Wish, merge: Standing, scores: Mapping[str, Any]) -> None:
    """Remember a merge and its score; the one before is not repeated, and other models begin a new trail."""
    move = {
        "wish": wish.data(),
        "nearest": list(merge.nearest),
        "mean": scores["mean"],
        "digits": scores["digits"],
    }
    held = moves(wish)
    if not held or held[-1]["wish"] != move["wish"] or held[-1]["digits"] != move["digits"]:
        st.session_state[_KEY] = [*held, move][-MOST_MOVES:]


def moves(wish: Wish) -> list[dict[str, Any]]:
    """What was scored of these models, the oldest first."""
    held: list[dict[str, Any]] = st.session_state.get(_KEY, [])
    first = held[-1]["wish"] if held else None
    same = first and (first["base"], tuple(first["models"])) == (wish.base, wish.models)
    return list(held) if same else []


def points(held: Sequence[Mapping[str, Any]], plane: Plane) -> tuple[list[Row], list[Row]]:
    """Scored merges as points of the plane, and the line through the last of them."""
    measured, line = [], []
    for step, move in enumerate(held):
        at = plane.place(move["nearest"])
        says = f"{spelled(wish_from(move['wish']))} · {move['digits']} digits a task"
        measured.append({"x": at.x, "y": at.y, "mean": move["mean"], "says": says})
        if step >= len(held) - JOINED:
            line.append({"x": at.x, "y": at.y, "step": step})
    return measured, line


def spelled(wish: Wish) -> str:
    """A wish in a few words."""
    weights = ", ".join(f"{weight:g}" for weight in wish.weights)
    values = ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in wish.shared
    )
    return " · ".join(part for part in (wish.method, weights, values) if part)
