"""The models of a recipe: where they are, the values that each has for itself, whether they fit together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import streamlit as st

from merging import MergingError, Method
from ui import boxes
from ui.compose.changes import change
from ui.compose.fit import Fit, fit, listed
from ui.compose.form import Data, Form, moved, with_companion, with_key, with_model, with_value, without_model
from ui.compose.hub_search import show_search
from ui.compose.reading import exists, whole
from ui.fields import ask, field, own_names, spelled
from ui.models import hint
from ui.places import known_models, refusal, short, zoo_models
from ui.questions import StillAsking

Edit: TypeAlias = Callable[[Data], Data]
# Inputs side by side.
MOST_ACROSS = 4


def show_base(form: Form, method: Method) -> None:
    """The base model, where the method has one."""
    if method.needs.base == "unused" and not form.base:
        return
    needs = {"required": hint(), "optional": "none", "unused": "none; this method has no base model"}
    _source(
        "Base model", "compose_base", form.base, needs[method.needs.base], lambda data, chosen: _based(data, chosen)
    )
    if form.base:
        _verdict(form.base, None, good=False)


def _based(data: Data, source: str | None) -> Data:
    return with_key(data, "base_model", source)


def show_models(form: Form, data: Data, method: Method, good: bool) -> None:
    """Every model with what is written about it, and a place to add one."""
    if data.get("slices"):
        boxes.empty("The models are those of the slices, which the text describes.", ":material/layers:")
        return
    for i in range(len(form.models)):
        with st.container(border=True, gap="small", key=f"compose_model_{i}_box"):
            _model(form, data, method, i)
            if i or form.base:
                _verdict(form.models[i].source, form.base or form.models[0].source, good)
            else:
                _verdict(form.models[i].source, None, good)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        _source("Add a model", "compose_add", None, hint(), _added)
        show_search(method.needs.base != "unused")


def _added(data: Data, source: str | None) -> Data:
    return with_model(data, source) if source else data


def _model(form: Form, data: Data, method: Method, i: int) -> None:
    last = len(form.models) - 1
    with st.container(horizontal=True, vertical_alignment="bottom", wrap=False, gap="small"):
        _source(
            f"Model {i + 1}", f"compose_model_{i}", form.models[i].source, "", lambda data, new: _placed(data, new, i)
        )
        _button("arrow_upward", f"compose_up_{i}", "Earlier in the order", i == 0, lambda data: moved(data, i, i - 1))
        _button("arrow_downward", f"compose_down_{i}", "Later", i == last, lambda data: moved(data, i, i + 1))
        _button("close", f"compose_out_{i}", "Take this model out", False, lambda data: without_model(data, i))
    entry, line = form.models[i], data["models"][i]
    _values(entry.values, line.get("parameters") or {}, method, f"compose_model_{i}", i, form.values)
    for name in method.needs.companions:
        key = f"compose_model_{i}_{name}"
        held = entry.companions.get(name)
        _source(f"Its {name}", key, held, "statistics", partial(_accompanied, i, name))


def _accompanied(i: int, name: str, data: Data, source: str | None) -> Data:
    return with_companion(data, i, name, source)


def _placed(data: Data, source: str | None, i: int) -> Data:
    return with_model(data, source, i) if source else without_model(data, i)


def _button(icon: str, key: str, tells: str, disabled: bool, edit: Edit) -> None:
    st.button(
        f":material/{icon}:", key=key, help=tells, disabled=disabled, on_click=change, args=(edit,), type="tertiary"
    )


def _values(values: Any, block: dict[str, Any], method: Method, key: str, model: int | None, shared: Any) -> None:
    """The parameters that may differ from model to model, empty where nothing is written for this one."""
    names = own_names(method)
    for start in range(0, len(names), MOST_ACROSS):
        across = names[start : start + MOST_ACROSS]
        for name, column in zip(across, st.columns(max(2, min(len(names), MOST_ACROSS))), strict=False):
            each = field(method, name, values.get(name))
            fallback = shared.get(name, method.defaults().get(name))
            hint = (
                "as written" if name in block and name not in values else "" if fallback is None else spelled(fallback)
            )
            with column:
                ask(
                    each._replace(value=values.get(name), changed=False),
                    f"{key}_{name}",
                    changed=lambda name, value: change(lambda data: with_value(data, name, value, model)),
                    hint=hint or "needed",
                )


def _source(label: str, key: str, held: str | None, says: str, edit: Callable[[Data, str | None], Data]) -> None:
    """A model chosen from those that are known, or typed; what it changes is `edit`."""
    names = {path: name for name, path in [*known_models().items(), *zoo_models().items()]}
    options = list(dict.fromkeys([*([held] if held else []), *names]))
    st.session_state[key] = held

    def chosen() -> None:
        source = st.session_state[key]
        change(lambda data: edit(data, meant(source, names) if source else None))

    st.selectbox(
        label,
        options,
        index=None,
        format_func=lambda each: names.get(each, each),
        key=key,
        accept_new_options=True,
        placeholder=says or hint(),
        on_change=chosen,
    )


def meant(typed: str, names: Mapping[str, str]) -> str:
    """What a person names: a known model by path, name or last folder, else a path, written out."""
    if typed in names or exists(Path(typed)):
        return whole(typed, Path.cwd())
    alike = [path for path, name in names.items() if typed in (name, short(path), name.removeprefix("zoo · "))]
    return alike[0] if len(alike) == 1 else whole(typed, Path.cwd())


def _verdict(source: str, reference: str | None, good: bool) -> None:
    """Whether a model fits, and why not; where the whole merge is good, differences are only told."""
    try:
        judged = judge(source, reference)
    except StillAsking:
        st.caption(":material/hourglass_empty: Asking the Hub")
        return
    if isinstance(judged, str):
        st.caption(f":red[:material/cancel: {boxes.plain(judged)}]")
        return
    if judged.against and not good:
        st.caption("  \n".join(f":red[:material/cancel: {boxes.plain(each)}]" for each in judged.against))
    told = [judged.says, *judged.notes, *(judged.against if good else ())]
    mark = ":green[:material/check_circle:] " if reference and (good or not judged.against) else ""
    st.caption(mark + boxes.plain("; ".join(told)))


def judge(source: str, reference: str | None) -> Fit | str:
    """How a model stands to another one; text where it cannot be opened. Raises StillAsking."""
    for each in (source, reference):
        if each and (says := refusal(each)):
            return says if each == source else "cannot be judged before the base model is there"
    try:
        held = listed(source)
    except StillAsking:
        raise
    except MergingError as error:
        return str(error).splitlines()[0]
    try:
        return fit(held, listed(reference) if reference else None)
    except MergingError:
        return fit(held)
