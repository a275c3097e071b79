"""Forms made of declarations: every parameter of every method can be asked for, within its bounds."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from merging import Method, all_methods
from ui.fields import (
    accepted,
    field,
    group,
    method_label,
    ordered_methods,
    own_names,
    paper_link,
    shared_names,
    theorem,
    use_it,
)

METHODS = all_methods()
EVERY = [(method, name) for method in METHODS.values() for name in method.parameters]


@pytest.mark.parametrize(("method", "name"), EVERY, ids=[f"{method.name}-{name}" for method, name in EVERY])
def test_a_field_shows_the_default_and_its_bounds_are_those_of_the_declaration(method: Method, name: str) -> None:
    each, knob = field(method, name), method.parameters[name]
    assert each.value == method.defaults().get(name)
    assert each.required == (name not in method.defaults())
    assert not each.changed
    assert (each.least, each.most) == (knob.kind.minimum, knob.kind.maximum)
    assert knob.kind.type != "choice" or each.choices == knob.kind.choices


def test_a_field_is_marked_when_its_value_is_not_the_default() -> None:
    ties = METHODS["ties"]
    assert field(ties, "density", 0.5).changed
    assert not field(ties, "density", 1).changed
    assert field(ties, "normalize", False).changed
    assert not field(METHODS["slerp"], "t", 0.5).changed


def test_a_slider_is_offered_only_where_its_steps_can_say_the_value() -> None:
    assert field(METHODS["ties"], "density", 0.35).control == "slider"
    assert field(METHODS["ties"], "density", 0.333).control == "number"
    tiny = field(METHODS["grafting"], "density")
    assert (tiny.control, tiny.value) == ("number", 0.0001)
    assert tiny.step == pytest.approx(1e-5)


def test_names_without_effect_are_not_asked_for_and_the_others_are_shared_or_per_model() -> None:
    for method in METHODS.values():
        inert = {name for name, knob in method.parameters.items() if knob.says.startswith("no effect")}
        asked = [*own_names(method), *shared_names(method)]
        assert set(asked) == set(method.parameters) - inert
        assert len(set(asked)) == len(asked)
    assert "int8_mask" not in shared_names(METHODS["ties"])


def test_what_a_method_refuses_is_not_accepted() -> None:
    ties = METHODS["ties"]
    assert accepted(ties, "density", 0.5) == 0.5
    assert accepted(ties, "density", 1.5) is None
    assert accepted(ties, "density", [0.1, 0.2]) is None
    assert accepted(ties, "no such parameter", 1) is None
    assert accepted(ties, "normalize", 1.0) is True


def test_every_method_is_listed_once_and_found_by_its_group() -> None:
    assert sorted(ordered_methods()) == sorted(METHODS)
    assert group(METHODS["fisher"]) == "statistics"
    assert group(METHODS["slerp"]) == "models"
    assert "task vectors" in method_label("ties")


def test_the_theorem_leaves_out_advice_parameters_and_example() -> None:
    for method in METHODS.values():
        said = theorem(method)
        assert said.startswith(method.theorem.splitlines()[0])
        assert ">>>" not in said
        assert "Use it " not in said
        assert not any(line.startswith(f"{name}: ") for line in said.splitlines() for name in method.parameters)
    assert use_it(METHODS["ties"]).startswith("where task vectors disagree in sign")


def test_papers_are_linked_by_their_scheme() -> None:
    assert paper_link("arXiv:2306.01708").endswith("(https://arxiv.org/abs/2306.01708)")
    assert paper_link("doi:10.1145/325334.325242").endswith("(https://doi.org/10.1145/325334.325242)")
    assert "](" not in paper_link("a note")


def uncontrolled(name: str) -> None:
    """A page of one method's form; run by Streamlit, which takes the source of a function."""
    import streamlit as st

    from merging import all_methods
    from ui.fields import method_form, method_says

    method = all_methods()[name]
    method_says(method)
    st.json(method_form(method, "form", {"lambda": 0.7} if "lambda" in method.parameters else None))


@pytest.mark.parametrize("name", ["ties", "slerp", "core_space", "karcher", "regmean", "metagpt"])
def test_a_form_is_drawn_and_returns_values_in_their_types(name: str) -> None:
    page = AppTest.from_function(uncontrolled, kwargs={"name": name}, default_timeout=30).run()
    assert not page.exception
    method = METHODS[name]
    fresh = {key: value for key, value in method.defaults().items() if key in shared_names(method)}
    assert _json(page) == fresh | ({"lambda": 0.7} if "lambda" in method.parameters else {})
    assert "What it does" in [each.label for each in page.expander]


def test_a_form_keeps_what_is_entered_itself() -> None:
    page = AppTest.from_function(uncontrolled, kwargs={"name": "ties"}, default_timeout=30).run()
    page.toggle(key="form_normalize").set_value(False).run()
    page.number_input(key="form_lambda").set_value(1.5).run()
    assert _json(page) == {"normalize": False, "rescale": False, "lambda": 1.5}


def unshown(names: tuple[str, ...]) -> None:
    """A form some of whose values no widget can show."""
    import streamlit as st

    from merging import all_methods
    from ui.fields import method_form

    st.json(method_form(all_methods()["dare_ties"], "form", unshown=names))


def test_what_no_widget_can_show_is_left_empty_and_can_be_replaced() -> None:
    names = ("rescale", "rescaling", "lambda")
    page = AppTest.from_function(unshown, kwargs={"names": names}, default_timeout=30).run()
    assert not page.exception
    assert _json(page) == {"normalize": False}
    page.selectbox(key="form_rescale").select(True).run()
    assert _json(page) == {"normalize": False, "rescale": True}


def _json(page: AppTest) -> object:
    import json

    return json.loads(page.json[0].value)
