"""Write a recipe by choosing models and a method, see at once whether it would work and what it costs, start it."""

from __future__ import annotations

import streamlit as st

from ui import boxes, draft, remote
from ui.compose import models, preflight
from ui.compose.beginnings import first_text, show_beginnings
from ui.compose.block_editor import show_blocks
from ui.compose.changes import change, choose_method, show_notice, take
from ui.compose.form import kept, method_of, show, with_value
from ui.compose.output import show_output
from ui.compose.pace import Pace, pace
from ui.compose.reading import Reading, read
from ui.compose.start import ask_wishes, show_start
from ui.fields import method_form, method_label, method_says, ordered_methods, own_names, shared_names
from ui.places import refusal

TEXT = "compose_text"


def page() -> None:
    """The page."""
    boxes.heading("Compose", "A recipe as a form and as text, judged after every change, from headers alone.")
    if not draft.text():
        draft.put(first_text())
    show_beginnings()
    show_notice()
    reading = read(draft.text())
    sources = form_sources(reading)
    remote.begin(*(source for source in sources if refusal(source) is None))
    left, right = st.columns(2, gap="medium")
    with right:
        _text(reading)
        judged = st.container()
        wishes = ask_wishes(any(map(remote.is_remote, sources)))
        finding = _finding(reading, wishes)
        sendable = finding.good or finding.lacks_room
        show_start(reading.text, reading.recipe, wishes, finding.good, sendable)
        with judged:
            preflight.show_verdict(finding, _pace(reading, finding), wishes.fetch)
            remote.ask_again()
    with left:
        _form(reading, finding.good)
    with judged:
        remote.show_waiting(*finding.asking)
    preflight.show_plan(finding)


def form_sources(reading: Reading) -> tuple[str, ...]:
    """The models that are named so far, in a recipe that may not be finished."""
    if reading.recipe is not None:
        return preflight.sources_of(reading.recipe)
    data = reading.data or {}
    named = [data.get("base_model"), *(each.get("model") for each in data.get("models") or ())]
    return tuple(source for source in named if source)


def _finding(reading: Reading, wishes: preflight.Wishes) -> preflight.Finding:
    if reading.recipe is None:
        return preflight.Finding(reading.problems)
    return preflight.examine(reading.text, reading.recipe, wishes)


def _pace(reading: Reading, finding: preflight.Finding) -> Pace:
    method = method_of(reading.data or {})
    return pace(method.name if method else "", finding.plan)


def _text(reading: Reading) -> None:
    """The recipe itself."""
    st.html(f"<style>.st-key-{TEXT} textarea {{font-family: monospace; font-size: 0.85rem}}</style>")
    st.session_state[TEXT] = reading.text
    st.text_area(
        "Recipe",
        key=TEXT,
        height=320,
        on_change=lambda: take(st.session_state[TEXT]),
        help="Taken over when you leave the field or press Ctrl+Enter.",
    )
    told = kept(reading.data) if reading.data is not None else []
    if told:
        st.caption("The form keeps as written: " + boxes.plain(", ".join(told)) + ".")


def _form(reading: Reading, good: bool) -> None:
    data = reading.data
    if data is None:
        boxes.empty("The form is back as soon as the recipe can be read.", ":material/edit_off:")
        return
    form, method = show(data), method_of(data)
    assert method
    key = "compose_method"
    st.session_state[key] = form.method
    st.selectbox(
        "Method",
        ordered_methods(),
        format_func=method_label,
        key=key,
        on_change=lambda: choose_method(st.session_state[key]),
    )
    method_says(method)
    models.show_base(form, method)
    models.show_models(form, data, method, good)
    own, shared = own_names(method), shared_names(method)
    if own or shared:
        st.subheader("Parameters", anchor=False)
        unshown = set(data.get("parameters") or {}) - set(form.values)
        method_form(method, "compose_all", form.values, names=[*own, *shared], changed=_set, unshown=unshown)
    if own and len(form.models) > 1:
        verb = "holds" if len(own) == 1 else "hold"
        st.caption(boxes.plain(f"{', '.join(own)} {verb} for every model that has no value of its own."))
    show_blocks(reading, method)
    st.subheader("Output", anchor=False)
    show_output(form, method)


def _set(name: str, value: object) -> None:
    change(lambda data: with_value(data, name, value))


page()
