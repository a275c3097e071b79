"""Choosing models: from the bundled ones, from the roots, or by typing a path or a name on the Hub."""

from __future__ import annotations

import streamlit as st

from ui.boxes import plain
from ui.places import known_models, refusal, short, zoo_models
from ui.remote import is_allowed


def shown(source: str) -> str:
    """How a source is listed: the bundled ones by name, others by path."""
    names = {path: name for name, path in zoo_models().items()}
    return names.get(source, source)


def hint() -> str:
    """What may be typed where a model is chosen."""
    return "choose, type a path or owner/name" if is_allowed() else "choose or type a path"


def pick_one(label: str, key: str, default: str | None = None, optional: bool = False) -> str | None:
    """A source chosen from a list or typed; None while nothing allowed is chosen."""
    options = list(known_models().values())
    if default and default not in options:
        options.insert(0, default)
    chosen = st.selectbox(
        label,
        options,
        index=options.index(default) if default in options else None,
        format_func=shown,
        key=key,
        accept_new_options=True,
        persist_state="session",
        placeholder="none" if optional else hint(),
    )
    return _allowed([chosen])[0] if chosen and _allowed([chosen]) else None


def pick_several(label: str, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Sources chosen from a list or typed, in the order of choosing."""
    options = list(dict.fromkeys([*known_models().values(), *default]))
    chosen = st.multiselect(
        label,
        options,
        default=list(default),
        format_func=shown,
        key=key,
        accept_new_options=True,
        persist_state="session",
        placeholder=hint(),
    )
    return tuple(_allowed(chosen))


def labels(sources: tuple[str, ...]) -> dict[str, str]:
    """A short name for each source, with more of its path where two would be called the same."""
    names = {source: short(source) for source in sources}
    return {source: name if list(names.values()).count(name) == 1 else source for source, name in names.items()}


def _allowed(sources: list[str]) -> list[str]:
    kept = []
    for source in sources:
        says = refusal(source)
        if says:
            st.error(plain(says), icon=":material/block:")
        else:
            kept.append(source)
    return kept
