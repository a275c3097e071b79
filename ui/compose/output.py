"""The lines of a recipe that are not about the method: dtype, tokenizer, what happens where models differ, the seed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from merging import Method
from ui.compose.changes import change
from ui.compose.form import DTYPES, Data, Form, with_dtype, with_key
from ui.models import shown

LARGEST_SEED = 2**53 - 1


def show_output(form: Form, method: Method) -> None:
    """The widgets, two in a row."""
    first, second = st.columns(2)
    with first:
        _line("Output dtype", "compose_dtype", DTYPES, form.dtype, with_dtype, {}, "as the models store it")
    with second:
        if is_random(method):
            _seed(form.seed)
        else:
            _tokenizer(form)
    with st.expander("Where models differ", icon=":material/difference:"):
        words = {"refuse": "refuse the merge", "base": "take the base model's"}
        edit = _keyed("missing_tensors")
        _line("A model lacks a tensor", "compose_missing", ("refuse", "base"), form.missing_tensors, edit, words)
        words = {"refuse": "refuse the merge", "drop": "leave it out", "copy": "copy it"}
        edit = _keyed("extra_tensors")
        _line("Only some have a tensor", "compose_extra", ("refuse", "drop", "copy"), form.extra_tensors, edit, words)
        if is_random(method):
            _tokenizer(form)


def is_random(method: Method) -> bool:
    """Whether a method draws random numbers, which the seed addresses."""
    return "random" in inspect.signature(method.function).parameters


def _keyed(key: str) -> Callable[[Data, Any], Data]:
    return lambda data, value: with_key(data, key, value)


def _line(
    label: str,
    key: str,
    options: Sequence[str | None],
    held: str | None,
    edit: Callable[[Data, Any], Data],
    words: Mapping[str, str],
    hint: str | None = None,
) -> None:
    """A choice that is a line of the recipe; with `hint` it may be left empty."""
    st.session_state[key] = held

    def chosen() -> None:
        value = st.session_state[key]
        change(lambda data: edit(data, value))

    st.selectbox(
        label,
        options,
        index=0 if hint is None else None,
        format_func=lambda each: words.get(str(each), str(each)),
        key=key,
        on_change=chosen,
        placeholder=hint,
    )


def _tokenizer(form: Form) -> None:
    named = [*(["base"] if form.base else []), *dict.fromkeys(each.source for each in form.models)]
    options = named if form.tokenizer in (None, *named) else [*named, form.tokenizer]
    words = {each: "the base model" if each == "base" else shown(each) for each in named}
    edit, hint = _keyed("tokenizer_source"), "the base model" if form.base else "the first model"
    _line("Tokenizer from", "compose_tokenizer", options, form.tokenizer, edit, words, hint)


def _seed(held: int) -> None:
    st.session_state["compose_seed"] = min(held, LARGEST_SEED)

    def chosen() -> None:
        value = st.session_state["compose_seed"]
        change(lambda data: with_key(data, "seed", value))

    tells = "The same seed gives the same bytes; another one another draw."
    st.number_input("Seed", 0, LARGEST_SEED, key="compose_seed", on_change=chosen, help=tells, step=1)
