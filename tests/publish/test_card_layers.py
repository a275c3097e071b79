from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.publish.card_layers import MARK, draw_layers
from tests.publish.toys import HOSTILE, config, copied_row, ledger, linear_row, row

SVG = "{http://www.w3.org/2000/svg}"
UP = "model.layers.{}.mlp.up_proj.weight"


def drawn(rows, names):
    return ElementTree.fromstring(draw_layers(rows, names, config()))


def texts(picture):
    return [each.text for each in picture.iter(f"{SVG}text")]


def places(picture):
    """The extent of everything that is drawn: boxes as paths, and texts by their anchor."""
    for path in picture.iter(f"{SVG}path"):
        start = path.attrib["d"][1:].split("h")[0].split() if "h" in path.attrib["d"] else ("0", "0")
        yield float(start[0]), float(start[1])
    yield from ((float(each.attrib["x"]), float(each.attrib["y"])) for each in picture.iter(f"{SVG}text"))


def test_every_model_and_every_layer_has_its_place():
    picture = drawn(ledger(layers=4, models=3), ["math", "code", "chat", "base"])
    said = texts(picture)
    assert [each for each in said if each in ("math", "code", "chat", "base")] == ["math", "code", "chat", "base"]
    assert [each for each in said if each in "0123" and each][:4] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(("models", "layers"), [(1, 1), (2, 0), (20, 200), (3, 48)])
def test_all_sizes_are_drawn_inside_the_frame(models, layers):
    picture = drawn(ledger(layers, models), [f"org/model-{i}" for i in range(models + 1)])
    width, height = float(picture.attrib["width"]), float(picture.attrib["height"])
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places(picture))


def test_the_largest_picture_stays_small_enough_for_a_page():
    assert len(draw_layers(ledger(200, 20), [f"org/model-{i}" for i in range(21)], config())) < 500_000


def test_shares_are_written_where_there_is_room_and_in_tooltips():
    picture = drawn([row(UP.format(0), [3.0, 1.0])], ["math", "code"])
    assert {"75", "25"} <= set(texts(picture))
    tips = [each.text for each in picture.iter(f"{SVG}title")]
    assert "math, layer 0: 75 %" in tips


def test_copied_opposed_and_still_columns_each_have_their_own_look_and_legend():
    rows = [
        row("model.embed_tokens.weight", [0.0, 0.0], norm=0.0),
        linear_row(UP.format(0), [0.5, -0.5], [1.0, 1.0]),
        copied_row("model.norm.weight", 0),
    ]
    picture = drawn(rows, ["math", "code", "base"])
    said = " ".join(texts(picture))
    assert "copied unchanged" in said and "against the model's own change" in said and "no model differs" in said
    classes = {each.attrib.get("class") or each.attrib.get("fill") for each in picture.iter(f"{SVG}path")}
    assert {"for", "against", "still", "url(#copied)"} <= classes


def test_a_legend_names_only_what_occurs():
    said = " ".join(texts(drawn([row(UP.format(0), [1.0])], ["math", "base"])))
    assert "copied" not in said and "against" not in said and "no model differs" not in said


def test_the_picture_says_in_words_what_it_shows():
    rows = [row(UP.format(0), [3.0, 1.0]), row(UP.format(1), [1.0, 1.0])]
    words = drawn(rows, ["math", "code"]).find(f"{SVG}desc").text
    assert "math: 62 % of the whole, from 50 % (layer 1) to 75 % (layer 0)." in words


def test_the_picture_needs_nothing_from_elsewhere_and_knows_two_palettes():
    text = draw_layers(ledger(), ["math", "code", "base"], config())
    assert "prefers-color-scheme:dark" in text and MARK in text
    assert "href" not in text and "@import" not in text and text.count("http") == 1


@given(st.one_of(st.text(), st.sampled_from(HOSTILE)))
def test_no_name_adds_an_element(name):
    plain, odd = (drawn(ledger(), [each, "code", "base"]) for each in ("math", name))
    assert [each.tag for each in odd.iter()] == [each.tag for each in plain.iter()]
    assert [each.attrib.keys() for each in odd.iter()] == [each.attrib.keys() for each in plain.iter()]
