"""Block weights on the page: what a parameter is in every layer, and ways to change it for some of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import streamlit as st

from merging import BLOCK_PRESETS, BlockWeights, MergingError, Method, contents, write_block_weights
from ui import boxes, remote
from ui.compose.blocks import (
    Mark,
    Target,
    edited,
    from_line,
    layered_parameters,
    marked,
    scaled,
    selected,
    table,
    weights_of,
    with_weights,
    without_weights,
)
from ui.compose.changes import change
from ui.compose.drawing import show_curves, stroked
from ui.compose.fit import counted
from ui.compose.form import Data
from ui.compose.reading import Reading
from ui.fields import spelled
from ui.places import refusal, short, stamp

_PROBLEM = "compose_block_problem"
ALL = -1
# A line that a person still reads; every tensor for itself makes longer ones.
LONGEST_LINE = 2_000
OPERATIONS: tuple[Literal["set", "multiply", "add"], ...] = ("set", "multiply", "add")
PARTS = ("embedding", "attention", "mlp", "norm", "other", "head")
CURVES = (
    "A number, a list from the first to the last layer (0,0.5,1), or cosine(0,1), linear(0,1), bell(0,1), step(0,1)."
)


@st.cache_data(max_entries=8, show_spinner=False)
def _tensors(source: str, stamped: tuple[Any, ...]) -> tuple[Any, ...]:  # noqa: ARG001
    return contents(remote.opened(source)).tensors


def show_blocks(reading: Reading, method: Method) -> None:
    """The editor, where a recipe has models and the method a parameter that can differ from layer to layer."""
    names = layered_parameters(method)
    if reading.recipe is None or not reading.recipe.models or not names:
        return
    source = reading.recipe.base_model or reading.recipe.models[0].source
    opened = st.expander("Block weights", icon=":material/bar_chart:", key="compose_blocks", on_change="rerun")
    # Nothing is worked out for a closed drawer.
    if opened.open:
        with opened:
            _content(reading, method, names, source)


def _content(reading: Reading, method: Method, names: list[str], source: str) -> None:
    if refusal(source):
        boxes.empty("Choose a base model in the roots to see its layers.")
        return
    target = _target(reading, method, names)
    assert reading.recipe
    try:
        weights = weights_of(reading.recipe, method, target, _tensors(source, stamp(source)))
    except MergingError as error:
        boxes.problem(error)
        return
    if weights is None:
        boxes.empty(f"Give {boxes.plain(target.parameter)} a value first: it has no default.")
        return
    _editor(weights, target, method.parameters[target.parameter].kind)


def _target(reading: Reading, method: Method, names: list[str]) -> Target:
    """Which parameter, of which model."""
    assert reading.recipe
    first, second = st.columns(2)
    name = first.selectbox("Parameter", names, key="compose_block_parameter", persist_state="session")
    models = [ALL]
    if method.parameters[name].kind.per_model:
        models += range(len(reading.recipe.models))
    sources = [short(each.source) for each in reading.recipe.models]
    model = second.selectbox(
        "Of",
        models,
        format_func=lambda each: "all models" if each == ALL else f"{each + 1}: {sources[each]}",
        key="compose_block_model",
    )
    return Target(name, None if model == ALL else model)


def _editor(weights: BlockWeights, target: Target, kind: Any) -> None:
    _curves(weights, target, (kind.minimum, kind.maximum))
    _line(weights, target)
    if problem := st.session_state.pop(_PROBLEM, None):
        boxes.problem(MergingError(*problem[:1], where=problem[1], must_be=problem[2], fix=problem[3]))
    selecting, cells, presets = st.tabs(["Select and change", "Layer by layer", "Presets"])
    with selecting:
        _selecting(weights, target)
    with cells:
        _cells(weights, target)
    with presets:
        _presets(weights, target)


def _attempt(target: Target, made: Callable[[], BlockWeights]) -> None:
    """Write weights into the recipe, or say what is wrong with them."""

    def edit(data: Data) -> Data:
        try:
            return with_weights(data, target, made())
        except MergingError as error:
            first = getattr(error, "problems", (error,))[0]
            st.session_state[_PROBLEM] = [first.what, first.where, first.must_be, first.fix]
            return data

    change(edit)


def _line(weights: BlockWeights, target: Target) -> None:
    """All of it as one line of text."""
    key = "compose_block_line"
    line = write_block_weights(weights)
    st.session_state[key] = line if len(line) <= LONGEST_LINE else ""
    st.text_input(
        "As a line",
        key=key,
        placeholder="too long to be shown; what is typed here takes its place",
        on_change=lambda: _attempt(target, lambda: from_line(st.session_state[key], weights)),
        help="Items with semicolons between, later ones over earlier ones: `0.5; attention=0,1; 8-15 mlp*=0.5; "
        "/o_proj/=0.8; head=plain`.",
    )


def _curves(weights: BlockWeights, target: Target, bounds: tuple[float | None, float | None]) -> None:
    """The curves, which can be drawn, and the values of what stands outside the layers."""
    name = f"{target.parameter} of {'all' if target.model is None else target.model}"
    show_curves(
        weights,
        target.parameter,
        name,
        bounds,
        lambda stroke: _attempt(target, lambda: stroked(weights, stroke)),
    )
    outside = [row for row in table(weights) if row["layer"].endswith("outside")]
    told = [f"{part} {spelled(value)}" for row in outside for part, value in row.items() if isinstance(value, float)]
    if told:
        st.caption(boxes.plain("Outside the layers: " + ", ".join(told)))
    if weights.by == "tensor":
        st.caption("Tensors of one block have different values: the curves are their means.")


def _selecting(weights: BlockWeights, target: Target) -> None:
    last = max((block.layer for block in weights.blocks if block.layer is not None), default=0)
    first, second = st.columns(2)
    parts = [part for part in PARTS if any(block.part == part for block in weights.blocks)]
    chosen = second.multiselect("Parts", parts, key="compose_block_parts", placeholder="all", persist_state="session")
    layers = None
    if last:
        span = first.slider("Layers", 0, last, (0, last), key=f"compose_block_layers_{last}", persist_state="session")
        layers = None if span == (0, last) else span
    pattern = st.text_input(
        "Names match",
        key="compose_block_pattern",
        placeholder="a regular expression, such as q_proj|k_proj",
        persist_state="session",
    )
    how, curve, apply = st.columns([2, 3, 2], vertical_alignment="bottom")
    operation = how.selectbox("Change", OPERATIONS, key="compose_block_operation", persist_state="session")
    text = curve.text_input("Value or curve", "1", key="compose_block_curve", help=CURVES, persist_state="session")
    mark = Mark(layers, tuple(chosen), pattern, operation, text)
    tensors = _count(weights, mark)
    apply.button(
        "Apply",
        key="compose_block_apply",
        disabled=not tensors,
        width="stretch",
        on_click=lambda: _attempt(target, lambda: marked(weights, mark)),
    )


def _count(weights: BlockWeights, mark: Mark) -> int:
    """How much is selected, shown as it is typed."""
    try:
        _, _, tensors, entries = selected(weights, mark)
    except MergingError as error:
        st.caption(f":red[{boxes.plain(error.what)}]")
        return 0
    noun = "tensor" if tensors == 1 else "tensors"
    st.caption(f"{tensors:,} {noun}, {counted(entries)} entries selected" if tensors else "No tensor is selected.")
    return tensors


def _cells(weights: BlockWeights, target: Target) -> None:
    """A table with a cell for every block."""
    if weights.by == "tensor":
        st.caption("Tensors of one block have different values here; write the line above instead.")
        return
    rows = table(weights)
    # A new table after every change: what is edited in the old one is in the recipe by then.
    key = f"compose_block_cells_{abs(hash((target, weights.values)))}"

    def change_cells() -> None:
        changed = {int(row): cells for row, cells in st.session_state[key]["edited_rows"].items()}
        _attempt(target, lambda: edited(weights, changed))

    st.data_editor(
        rows,
        key=key,
        on_change=change_cells,
        hide_index=True,
        disabled=["layer"],
        height=min(320, 38 + 35 * len(rows)),
        alt="Values by layer and part",
        column_config={"layer": st.column_config.TextColumn(width="small")},
    )


def _presets(weights: BlockWeights, target: Target) -> None:
    first, second, third = st.columns([3, 2, 2], vertical_alignment="bottom")
    name = first.selectbox(
        "Preset",
        list(BLOCK_PRESETS),
        format_func=lambda each: each.replace("_", " "),
        key="compose_block_preset",
        persist_state="session",
    )
    unit = second.number_input(
        "Times", value=1.0, step=0.1, format="%g", key="compose_block_unit", persist_state="session"
    )
    line = scaled(BLOCK_PRESETS[name], unit)
    third.button(
        "Apply",
        key="compose_block_preset_apply",
        width="stretch",
        on_click=lambda: _attempt(target, lambda: from_line(line, weights)),
    )
    st.caption(boxes.plain(line))
    st.button(
        "Take out of the recipe",
        key="compose_block_clear",
        icon=":material/backspace:",
        on_click=lambda: change(lambda data: without_weights(data, target)),
    )
