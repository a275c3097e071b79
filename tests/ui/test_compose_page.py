"""The page that writes recipes as a person uses it: form, text, check, start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from merging import Jobs, contents, find_zoo, open_source, read_recipe, write_yaml
from tests.jobs.places import over, root_at
from ui.compose.models import meant
from ui.compose.start import OUT

ROOT = Path(__file__).parent.parent.parent
ZOO = find_zoo()


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with root_at(tmp_path / "home") as found:
        yield found


@pytest.fixture
def page(tmp_path: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> AppTest:  # noqa: ARG001
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("MERGING_UI_ROOTS", str(tmp_path / "work"))
    return (
        AppTest.from_file(str(ROOT / "ui" / "app.py"), default_timeout=60).run().switch_page("views/compose.py").run()
    )


def text(page: AppTest) -> str:
    return str(page.text_area(key="compose_text").value)


def write(page: AppTest, recipe: str) -> AppTest:
    return page.text_area(key="compose_text").set_value(recipe).run()


def open_example(page: AppTest, name: str) -> None:
    box = page.selectbox(key="compose_example")
    box.select(next(each for each in box.options if each.startswith(name))).run()


def said(page: AppTest) -> str:
    assert not page.exception
    return " ".join(each.value for each in [*page.error, *page.warning, *page.info, *page.caption, *page.markdown])


def test_a_first_visit_finds_a_recipe_that_can_be_started(page: AppTest) -> None:
    assert "Ready: 72 tensors" in said(page)
    assert not page.button(key="compose_start").disabled
    assert {each.label for each in page.metric} == {"Time", "Reads", "Disk", "Memory"}


def test_what_the_form_changes_stands_in_the_text(page: AppTest) -> None:
    page.number_input(key="compose_all_lambda").set_value(0.7).run()
    page.number_input(key="compose_model_1_weight").set_value(0.5).run()
    page.selectbox(key="compose_dtype").select("float32").run()
    recipe = read_recipe(text(page))
    assert recipe.parameters["lambda"][0].value == 0.7
    assert recipe.models[1].parameters["weight"][0].value == 0.5
    assert recipe.out_dtype or recipe.dtype == "F32"
    page.number_input(key="compose_model_1_weight").set_value(None).run()
    assert "weight" not in text(page)


def test_what_the_text_says_stands_in_the_form(page: AppTest) -> None:
    write(page, text(page).replace("lambda: 0.4", "lambda: 0.9  # found by search"))
    assert page.number_input(key="compose_all_lambda").value == 0.9
    page.number_input(key="compose_all_lambda").set_value(0.8).run()
    assert "lambda: 0.8  # found by search" in text(page)


def test_models_are_added_moved_and_taken_out_with_what_is_written_about_them(page: AppTest) -> None:
    page.number_input(key="compose_model_0_weight").set_value(0.5).run()
    page.selectbox(key="compose_add").select(str(ZOO.fine_tunes["inverted"])).run()
    page.button(key="compose_down_0").click().run()
    names = ["mirrored", "rotated", "inverted"]
    assert [each.source for each in read_recipe(text(page)).models] == [str(ZOO.fine_tunes[name]) for name in names]
    assert page.number_input(key="compose_model_1_weight").value == 0.5
    page.button(key="compose_out_1").click().run()
    assert "weight" not in text(page)
    for _ in range(4):
        page.button(key="compose_undo").click().run()
    assert read_recipe(text(page)).models[0].parameters == {}
    assert page.button(key="compose_undo").disabled


def test_another_method_says_what_it_leaves_out_and_undo_brings_it_back(page: AppTest) -> None:
    before = text(page)
    page.selectbox(key="compose_method").select("linear").run()
    assert "Left out, because linear has no use for them\\: lambda 0.4, the base model" in said(page)
    page.button(key="compose_undo").click().run()
    assert text(page) == before


def test_a_text_that_cannot_be_read_stays_and_its_problems_have_lines(page: AppTest) -> None:
    write(page, "merge_method: ties\nmodels:\n- model: a\n  weigth: 1\n")
    assert "line 4" in said(page)
    assert "The form is back" in said(page)
    assert text(page).endswith("weigth: 1\n")
    assert page.button(key="compose_start").disabled


def test_models_outside_the_roots_are_refused_and_never_opened(page: AppTest, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    write(page, text(page).replace(str(ZOO.fine_tunes["rotated"]), str(secret)))
    assert f"{secret.name} lies outside" in said(page).replace("\\", "")
    assert page.button(key="compose_start").disabled


def test_a_model_of_another_shape_is_told_with_its_reasons(page: AppTest) -> None:
    twin = next(iter(ZOO.twins.values()))
    write(page, text(page).replace(str(ZOO.fine_tunes["rotated"]), str(twin)))
    assert "has 2 layers, not 4" in said(page)
    assert page.button(key="compose_start").disabled


def test_examples_are_opened_and_what_the_form_cannot_show_is_told(page: AppTest) -> None:
    options = page.selectbox(key="compose_example").options
    page.selectbox(key="compose_example").select(
        next(each for each in options if each.startswith("slerp gradient"))
    ).run()
    assert "The form keeps as written: t \\(conditions\\)" in said(page)
    assert not page.button(key="compose_start").disabled
    page.selectbox(key="compose_example").select(
        next(each for each in options if each.startswith("stack blends"))
    ).run()
    assert "The models are those of the slices" in said(page)
    assert not page.button(key="compose_start").disabled


def test_block_weights_are_selected_counted_applied_and_refused(page: AppTest) -> None:
    page.session_state["compose_blocks"] = True
    page.run()
    page.multiselect(key="compose_block_parts").select("attention").run()
    page.text_input(key="compose_block_pattern").set_value("key|query").run()
    tensors = contents(open_source(str(ZOO.base))).tensors
    found = [each for each in tensors if "key" in each.name or "query" in each.name]
    assert f"{len(found)} tensors" in said(page)
    page.text_input(key="compose_block_curve").set_value("0,1").run()
    page.button(key="compose_block_apply").click().run()
    assert [each.filter for each in read_recipe(text(page)).parameters["weight"]] == ["key", "query", None]
    page.text_input(key="compose_block_line").set_value("1; atention=0").run()
    assert "'atention' selects nothing" in said(page)
    page.text_input(key="compose_block_line").set_value("1; attention=0").run()
    assert [each.filter for each in read_recipe(text(page)).parameters["weight"]] == ["attention", None]
    assert page.number_input(key="compose_all_weight").value is None
    assert page.number_input(key="compose_all_weight").placeholder == "as written"
    page.button(key="compose_block_clear").click().run()
    assert "weight" not in text(page)


def test_an_output_folder_that_holds_something_needs_a_tick(page: AppTest, tmp_path: Path) -> None:
    folder = tmp_path / "work" / "full"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    page.text_input(key=OUT).set_value(str(folder)).run()
    assert "is not empty" in said(page)
    assert page.button(key="compose_start").disabled
    page.checkbox(key="compose_overwrite").check().run()
    assert not page.button(key="compose_start").disabled
    page.text_input(key=OUT).set_value("/elsewhere").run()
    assert "lies outside" in said(page)
    page.text_input(key=OUT).set_value("~nobody-here/out").run()
    assert "is no path" in said(page)


def test_a_started_merge_is_a_job_with_this_recipe_and_becomes_a_beginning(page: AppTest, jobs: Jobs) -> None:
    recipe, out = text(page), page.text_input(key=OUT).value
    page.button(key="compose_start").click().run()
    assert not page.exception
    (job,) = jobs.all()
    assert (job.recipe, str(job.out)) == (recipe, out)
    assert page.query_params["job"] in (job.id, [job.id])
    assert over(job) == "done"
    assert (job.out / "merging.json").is_file()
    page.switch_page("views/compose.py").run()
    assert page.text_input(key=OUT).value == f"{out}-2"
    (earlier,) = page.selectbox(key="compose_earlier").options
    assert "task_arithmetic" in earlier


def test_a_recipe_without_models_is_filled_in_by_the_form(page: AppTest) -> None:
    page.button(key="compose_new").click().run()
    assert "names no inputs" in said(page)
    for name in ("rotated", "mirrored"):
        page.selectbox(key="compose_add").select(str(ZOO.fine_tunes[name])).run()
    assert not page.button(key="compose_start").disabled
    page.button(key="compose_out_0").click().run()
    page.button(key="compose_out_0").click().run()
    assert text(page) == write_yaml({"merge_method": "linear"})


def test_a_typed_name_of_a_known_model_is_that_model() -> None:
    known = {str(path): f"zoo · {name}" for name, path in ZOO.fine_tunes.items()}
    assert meant("rotated", known) == str(ZOO.fine_tunes["rotated"])
    assert meant("zoo · rotated", known) == str(ZOO.fine_tunes["rotated"])
    for typed in ("no-such-model", "x" * 5000, "a\0b", "~nobody-here/model"):
        assert meant(typed, known) == typed
