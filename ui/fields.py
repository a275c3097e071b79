"""Forms made of what a method declares: its parameters with their bounds and defaults, and its mathematics."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from math import floor, log10
from typing import Any, Literal, NamedTuple

import streamlit as st

from merging import MergingError, Method, all_methods, cost
from ui.boxes import plain

# Ways of asking for a parameter.
Control = Literal["toggle", "choice", "slider", "number"]
# A method's names in order, under what they need to know.
GROUPS = (
    ("task vectors", "adds what the models learned to their base model"),
    ("models", "mixes the models themselves"),
    ("statistics", "weighs models by statistics that are named beside them"),
)
_INERT = "no effect"


class Field(NamedTuple):
    """How a parameter is asked for. `value` is what a widget shows, None where it is empty; `step` in its own unit."""

    name: str
    control: Control
    value: Any
    least: float | None
    most: float | None
    step: float | None
    choices: tuple[str, ...]
    required: bool
    changed: bool
    tells: str


def field(method: Method, name: str, value: Any = None) -> Field:
    """How the parameter `name` is asked for when it has this value; None stands for its default.

    >>> field(all_methods()["ties"], "density").control
    'slider'
    """
    knob = method.parameters[name]
    kind, required = knob.kind, name not in method.defaults()
    default = None if required else knob.default
    shown = default if value is None else value
    whole = kind.type == "count"
    if whole or kind.type == "number":
        shown = None if shown is None else int(shown) if whole else float(shown)
        least, most = (bound if bound is None or not whole else int(bound) for bound in (kind.minimum, kind.maximum))
        control: Control = "slider" if kind.is_share and _in_hundredths(shown, default) else "number"
        step = 1 if whole else 0.01 if control == "slider" else _step(default, kind.maximum)
    else:
        least, most, step, control = None, None, None, "toggle" if kind.type == "flag" else "choice"
    changed = not required and shown != default
    return Field(name, control, shown, least, most, step, kind.choices, required, changed, _tells(knob, required))


def _in_hundredths(*values: float | None) -> bool:
    """Whether a slider with steps of a hundredth can say all of these."""
    return all(value is not None and abs(100 * value - round(100 * value)) < 1e-9 for value in values)


def _step(default: float | None, most: float | None) -> float:
    """A tenth of the default's own power of ten; for what starts at 0, a tenth of what is usual."""
    size = abs(default or most or 1.0)
    return float(10.0 ** (floor(log10(size)) - 1))


def _tells(knob: Any, required: bool) -> str:
    said = f"{knob.says[0].upper()}{knob.says[1:]}. " if knob.says else ""
    default = "It has no default." if required else f"Default: {spelled(knob.default)}."
    return f"{plain(said)}{plain(knob.kind.describe().capitalize())}. {plain(default)}"


def spelled(value: Any) -> str:
    """A value as a recipe writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def shared_names(method: Method) -> list[str]:
    """Parameters that all models share and that have an effect, in the order of the declaration."""
    return [name for name in _telling(method) if not method.parameters[name].kind.per_model]


def own_names(method: Method) -> list[str]:
    """Parameters that may differ from model to model and that have an effect."""
    return [name for name in _telling(method) if method.parameters[name].kind.per_model]


def _telling(method: Method) -> Iterator[str]:
    return (name for name, knob in method.parameters.items() if not knob.says.startswith(_INERT))


def accepted(method: Method, name: str, value: Any) -> Any:
    """The value in the parameter's own type; None where the method refuses it or has no such parameter."""
    if name not in method.parameters or isinstance(value, list | dict | tuple):
        return None
    try:
        return method.parameters[name].check(value)
    except MergingError:
        return None


def ask(each: Field, key: str, *, changed: Callable[..., None] | None = None, hint: str | None = None) -> Any:
    """Draw the widget of a parameter and return its value, None where it is empty; `hint` is what stands there then.

    With `changed` the widget always shows the field's value, and the callback, which is given the name and the new
    value, is what keeps it. Without, the widget keeps its value itself, on other pages too.
    """
    if changed is not None or key not in st.session_state:
        st.session_state[key] = each.value
    shared: dict[str, Any] = {"key": key, "help": each.tells}
    if changed is None:
        shared["persist_state"] = "session"
    else:
        shared |= {"on_change": _tell, "args": (changed, each.name, key)}
    label = f"{each.name} :blue[●]" if each.changed else each.name
    match each.control:
        case "toggle" if hint is None:
            return st.toggle(label, **shared)
        case "toggle" | "choice":
            choices, chosen = each.choices or (True, False), None if hint else 0
            return st.selectbox(label, choices, chosen, format_func=spelled, placeholder=hint, **shared)
        case "slider" if hint is None:
            return st.slider(label, each.least, each.most, step=each.step, **shared)
        case _:
            hint = hint or ("needed" if each.required else None)
            shared |= {"min_value": each.least, "max_value": each.most, "step": each.step}
            shape = "%d" if isinstance(each.step, int) else "%g"
            return st.number_input(label, value=None, format=shape, placeholder=hint, **shared)


def _tell(changed: Callable[..., None], name: str, key: str) -> None:
    changed(name, st.session_state[key])


def method_form(
    method: Method,
    key: str,
    values: Mapping[str, Any] | None = None,
    *,
    names: Sequence[str] | None = None,
    changed: Callable[..., None] | None = None,
    columns: int = 2,
    unshown: Collection[str] = (),
) -> dict[str, Any]:
    """Draw the parameters `names` (default: all that models share) and return their values, empty ones left out.

    `values` are those that differ from the defaults; `changed` as in `ask`. Keys of widgets are `key` and the name.
    `unshown` have values that no widget can show, such as gradients: their widgets are empty and say so.
    """
    names = shared_names(method) if names is None else list(names)
    found: dict[str, Any] = {}
    for start in range(0, len(names), columns):
        row = zip(names[start : start + columns], st.columns(columns, vertical_alignment="bottom"), strict=False)
        for name, column in row:
            with column:
                each = field(method, name, (values or {}).get(name))
                hint = "as written" if name in unshown else None
                each = each._replace(value=None) if hint else each
                found[name] = ask(each, f"{key}_{name}", changed=changed, hint=hint)
    return {name: value for name, value in found.items() if value is not None}


def ordered_methods() -> list[str]:
    """Every method's name, grouped by what it works on."""
    groups = [title for title, _ in GROUPS]
    return sorted(all_methods(), key=lambda name: (groups.index(group(all_methods()[name])), name))


def group(method: Method) -> str:
    """Which of GROUPS a method belongs to."""
    if method.needs.companions:
        return "statistics"
    return "task vectors" if method.needs.sees == "task_vectors" else "models"


def method_label(name: str) -> str:
    """A method in a list: its name, what it works on, and its summary, all of it found by typing."""
    method = all_methods()[name]
    return f"{name} · {group(method)} · {method.summary.rstrip('.')}"


def method_says(method: Method) -> None:
    """The summary of a method, and one click away its theorem, what it costs and the paper."""
    st.caption(plain(method.summary))
    with st.expander("What it does", icon=":material/functions:"):
        st.code(theorem(method), language=None, wrap_lines=True)
        advice = use_it(method)
        if advice:
            st.markdown(f"**Use it** {plain(advice)}")
        st.caption(plain(f"{cost(method).capitalize()}.") + f" {paper_link(method.paper)}")


def theorem(method: Method) -> str:
    """The mathematics of a method: its docstring without advice, parameters and example."""
    return "\n\n".join(part for part in _parts(method) if not part.startswith("Use it ") and not _lists(method, part))


def use_it(method: Method) -> str:
    """When to use a method, without the words "Use it"; empty where the docstring does not say."""
    advice = next((part for part in _parts(method) if part.startswith("Use it ")), "")
    return " ".join(advice.removeprefix("Use it ").split())


def _parts(method: Method) -> list[str]:
    return [part for part in method.theorem.split("\n\n") if not part.startswith(">>>")]


def _lists(method: Method, part: str) -> bool:
    return any(part.startswith(f"{name}: ") for name in method.parameters)


def paper_link(paper: str) -> str:
    """A paper as a Markdown link."""
    scheme, _, number = paper.partition(":")
    addresses = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}
    return f"[{plain(paper)}]({addresses[scheme]}{number})" if scheme in addresses else plain(paper)
