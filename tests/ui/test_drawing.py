"""Curves that are drawn by hand: what the plot is told and what a stroke says; then as a person draws them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from merging import BlockWeights, MergingError, contents, find_zoo, open_source
from tests.ui.browser import PATIENCE, at, settled, visited
from tests.ui.conftest import Workbench
from ui.compose.blocks import from_line, table
from ui.compose.drawing import Stroke, plot_data, read_stroke, stroked

TENSORS = contents(open_source(str(find_zoo().base))).tensors
LAYERS = 4


def stroke(cells: dict[tuple[str, int], float]) -> Stroke:
    return Stroke("weight", 1, cells)


def test_the_plot_is_told_every_curve_with_its_bounds() -> None:
    told = plot_data(from_line("0,1.5; mlp=0.5", BlockWeights.of(TENSORS)), "weight", "weight of 1", (0.0, None))
    curves = {part["name"]: part["values"] for part in told["parts"]}
    assert curves["mlp"] == [[0, 0.5], [1, 0.5], [2, 0.5], [3, 0.5]]
    assert curves["attention"] == [[0, 0.0], [1, 0.5], [2, 1.0], [3, 1.5]]
    assert (told["target"], told["minimum"], told["maximum"]) == ("weight of 1", 0.0, None)
    assert len({part["colour"] for part in told["parts"]}) == len(curves)


def test_a_stroke_changes_the_layers_it_crosses_and_nothing_else() -> None:
    before = from_line("0.5; embedding=0.25", BlockWeights.of(TENSORS))
    rows = table(stroked(before, stroke({("mlp", 1): 0.8, ("mlp", 2): -0.1})))
    assert [row["mlp"] for row in rows] == [0.5, 0.8, -0.1, 0.5, None]
    assert [row["attention"] for row in rows] == [0.5] * LAYERS + [None]
    assert rows[-1]["embedding"] == 0.25


def test_a_stroke_of_another_model_is_refused() -> None:
    with pytest.raises(MergingError, match="layer 9 has no mlp"):
        stroked(BlockWeights.of(TENSORS), stroke({("mlp", 9): 1.0}))


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "drawn",
        {"target": "weight"},
        {"target": "weight", "number": "one", "cells": []},
        {"target": "weight", "number": 1, "cells": [["mlp", 0]]},
        {"target": "weight", "number": 1, "cells": [["mlp", 0, float("nan")]]},
    ],
)
def test_what_is_no_stroke_is_passed_over(sent: Any) -> None:
    assert read_stroke(sent) is None


@pytest.fixture
def page(workbench: Workbench, chromium) -> Iterator[Any]:
    with visited(chromium, f"{workbench.address}/compose", 1500) as shown:
        open_curves(shown)
        yield shown


def open_curves(page: Any) -> None:
    page.get_by_text("Block weights").first.click()
    plot(page).wait_for()
    settled(page)
    plot(page).scroll_into_view_if_needed()


def plot(page: Any) -> Any:
    return at(page, "compose_block_curves").locator("svg")


def writes(page: Any, values: str) -> None:
    """Return when the recipe holds these values."""
    expect(at(page, "compose_text").locator("textarea")).to_have_value(re.compile(re.escape(values)), timeout=PATIENCE)
    settled(page)


def told(page: Any) -> list[str | None]:
    """The values of the handles, as a screen reader says them."""
    handles = at(page, "compose_block_curves").get_by_role("slider")
    return [handles.nth(i).get_attribute("aria-valuetext") for i in range(LAYERS)]


def test_curves_are_drawn_by_dragging_typed_as_text_and_nudged_by_keys(page) -> None:
    area = plot(page).bounding_box()
    left, right = area["x"] + 46, area["x"] + area["width"] - 14
    # The axis goes from 0 to 2: half of the first quarter from below.
    height = area["y"] + 12 + 0.75 * (260 - 12 - 40)
    page.mouse.move(left, height)
    page.mouse.down()
    page.mouse.move(left + (right - left) * 2 / 3, height, steps=12)
    page.mouse.up()
    writes(page, "[0.5, 0.5, 0.5, 1.0]")
    line = at(page, "compose_block_line").locator("input")
    assert "0.5,0.5,0.5,1" in line.input_value()
    line.fill("0.25")
    line.press("Enter")
    writes(page, "weight: 0.25")
    assert told(page) == ["0.25"] * LAYERS
    at(page, "compose_block_curves").get_by_text("mlp").click()
    at(page, "compose_block_curves").get_by_role("slider").first.focus()
    for key in ("Home", "ArrowRight", "ArrowUp", "ArrowUp", "Shift+ArrowUp", "Enter"):
        page.keyboard.press(key)
    writes(page, "value: 0.47")
    assert told(page) == ["0.25", "0.47", "0.25", "0.25"]
    # The page was drawn anew, and the focus is where it was.
    assert page.locator("[data-layer='1']").evaluate("point => point.getRootNode().activeElement === point")


def test_a_stroke_can_be_taken_back_and_the_axis_reaches_below_zero(page) -> None:
    area = plot(page).bounding_box()
    page.mouse.move(area["x"] + 60, area["y"] + 150)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] - 20, area["y"] + 200, steps=8)
    assert told(page) != ["1"] * LAYERS
    page.keyboard.press("Escape")
    page.mouse.up()
    assert told(page) == ["1"] * LAYERS
    at(page, "compose_block_curves").get_by_role("button", name="Wider axis").click()
    page.mouse.click(area["x"] + 46, area["y"] + 260 - 40)
    writes(page, "value: -2.0")


def test_a_finger_draws_as_a_pointer_does(workbench: Workbench, chromium) -> None:
    with chromium.new_context(has_touch=True, viewport={"width": 1440, "height": 2000}) as context:
        page = context.new_page()
        page.goto(f"{workbench.address}/compose")
        settled(page)
        open_curves(page)
        area = plot(page).bounding_box()
        page.touchscreen.tap(area["x"] + 46, area["y"] + 260 - 40)
        writes(page, "value: 0.0")
