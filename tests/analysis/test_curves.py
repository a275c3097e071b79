from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.analysis.curves import Curve, read_curve, shortest_list
from merging.errors import MergingError
from merging.recipe.settings import interpolate

numbers = st.floats(-3, 3).map(lambda x: round(x, 3))


@given(st.lists(numbers, min_size=1, max_size=6), st.integers(2, 40))
def test_a_typed_list_is_found_again_in_the_values_it_gave_the_layers(typed, layers):
    points = [(i / (layers - 1), Curve(tuple(typed)).at(i / (layers - 1))) for i in range(layers)]
    found = shortest_list(points, [layers])
    assert found is not None
    assert len(found) <= max(len(typed), layers)
    if layers >= len(typed):
        assert len(found) <= len(typed)
    assert [interpolate(found, x) for x, _ in points] == [value for _, value in points]


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=40))
def test_any_values_of_the_layers_are_a_list(values):
    points = [(i / (len(values) - 1), value) for i, value in enumerate(values)]
    found = shortest_list(points, [len(values)])
    assert found is not None
    assert [interpolate(found, x) for x, _ in points] == values


def test_where_only_some_layers_say_anything_the_others_follow():
    assert shortest_list([(2 / 7, 0.5), (5 / 7, 1.0), (6 / 7, 1.0)], [8]) == (0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0)


def test_two_values_at_one_depth_are_no_list():
    assert shortest_list([(0.0, 1.0), (0.0, 2.0)], [4]) is None


@pytest.mark.parametrize(
    ("text", "at", "expected"),
    [
        ("0.5", 0.3, 0.5),
        ("0,0.2,1", 0.5, 0.2),
        (" -1 , 1e0", 0.25, -0.5),
        ("linear(0,1)", 0.3, 0.3),
        ("cosine(0, 1)", 0.0, 0.0),
        ("cosine(0,1)", 0.5, 0.5),
        ("cosine(1,0)", 1.0, 0.0),
        ("bell(0,1)", 0.5, 1.0),
        ("bell(1,0,0.2)", 0.2, 0.0),
        ("bell(0,1,0.5,0.1)", 0.6, 0.606531),
        ("step(0,1)", 0.49, 0.0),
        ("step(0,1)", 0.5, 1.0),
        ("step(0,1,0.8)", 0.79, 0.0),
    ],
)
def test_curves_are_read_and_have_their_values(text, at, expected):
    curve = read_curve(text)
    assert curve.at(at) == pytest.approx(expected, abs=1e-6)
    assert read_curve(str(curve)) == curve


@pytest.mark.parametrize(
    "text", ["", "a", "0,,1", "1e999", "nan", "linear(1)", "bell(1,2,3,4,5)", "bell(0,1,0.5,0)", "cosin(0,1)", "0.5;"]
)
def test_what_is_no_curve_is_refused_with_what_it_must_be(text):
    with pytest.raises(MergingError) as caught:
        read_curve(text)
    assert caught.value.must_be
