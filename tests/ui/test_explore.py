"""The Explore page as a person meets it: what is shown at first, and what sliders, buttons and choices change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit")
import torch
from safetensors.torch import save_file
from streamlit.testing.v1 import AppTest

from merging import Jobs, find_zoo, read_recipe
from ui.explore.controls import weight_key
from ui.explore.wish import Wish

ZOO = find_zoo()
BASE, MODELS = str(ZOO.base), tuple(str(path) for path in ZOO.fine_tunes.values())
PAGE = str(Path(__file__).parents[2] / "ui" / "views" / "explore.py")


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page with two models and few digits."""
    monkeypatch.setenv("MERGING_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("MERGING_UI_ROOTS", str(ZOO.folder))
    return opened(explore_models=list(MODELS[:2]))


def opened(**state: Any) -> AppTest:
    test = AppTest.from_file(PAGE, default_timeout=120)
    for key, value in {"explore_digits_validation": 25, **state}.items():
        test.session_state[key] = value
    return test.run()


def numbers(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def test_the_page_opens_with_the_bundled_models_placed_and_scored(page: AppTest) -> None:
    assert not page.exception and not page.error
    assert set(numbers(page)) == {"Norm", "Of the base", "Interference", "Mean score", "Of own"}
    assert len(page.get("vega_lite_chart")) == 5


def test_a_slider_moves_norm_and_score_and_writes_nothing(page: AppTest, tmp_path: Path) -> None:
    before = numbers(page)
    page.slider(key=weight_key("task_arithmetic", "rotated")).set_value(1.0).run()
    assert numbers(page)["Norm"] != before["Norm"] and numbers(page)["Mean score"] != before["Mean score"]
    assert not list(tmp_path.rglob("model*.safetensors"))


def test_only_and_reset_and_equal_set_all_sliders(page: AppTest) -> None:
    keys = [weight_key("task_arithmetic", name) for name in ("rotated", "mirrored")]

    def values() -> list[float]:
        return [page.slider(key=key).value for key in keys]

    page.button(key=f"{keys[1]}_only").click().run()
    assert values() == [0.0, 1.0]
    page.button(key="explore_equal").click().run()
    assert values() == [0.5, 0.5]
    page.button(key="explore_reset").click().run()
    assert values() == [0.4, 0.4]


def test_a_method_that_is_no_weighted_sum_is_placed_by_measuring_its_merge(page: AppTest) -> None:
    page.selectbox(key="explore_method").set_value("ties").run()
    assert not page.exception and not page.error
    assert numbers(page)["Interference"] == "–" and numbers(page)["Norm"] != "–"
    assert any("measured" in caption.value for caption in page.caption)


@pytest.mark.parametrize("method", ["slerp", "model_stock", "passthrough", "wise_ft"])
def test_methods_that_take_other_models_or_no_weights_work_as_well(page: AppTest, method: str) -> None:
    page.selectbox(key="explore_method").set_value(method).run()
    assert not page.exception and not page.error and numbers(page)["Mean score"].endswith("%")


def test_a_method_that_lacks_something_says_what(page: AppTest) -> None:
    page.selectbox(key="explore_method").set_value("fisher").run()
    assert not page.exception and "fisher" in page.error[0].value


def test_a_preset_of_blocks_changes_the_recipe(page: AppTest) -> None:
    page.selectbox(key="explore_line_all models_preset").set_value("late").run()
    assert page.text_input(key="explore_line_all models").value == "0,0,1,1; outer head norm?=1"
    recipe = next(code.value for code in page.code if "merge_method" in code.value)
    assert not page.error and read_recipe(recipe).models[0].parameters["weight"][0].value != 0.4


def test_a_line_of_blocks_that_cannot_be_read_is_explained_and_passed_over(page: AppTest) -> None:
    before = numbers(page)["Norm"]
    page.text_input(key="explore_line_all models").set_value("nonsense=1").run()
    assert "nonsense" in page.error[0].value and numbers(page)["Norm"] == before


def test_test_digits_are_apart_and_come_with_a_warning(page: AppTest) -> None:
    held = len(page.session_state["explore_trail"])
    page.segmented_control(key="explore_part").set_value("test").run()
    assert any("flatter" in caption.value for caption in page.caption)
    assert len(page.session_state["explore_trail"]) == held


def test_a_point_that_is_taken_over_moves_the_sliders(page: AppTest) -> None:
    page.session_state["explore_taken"] = Wish(BASE, MODELS[:2], "ties", (0.7, 0.1), (("density", 0.3),)).data()
    page.run()
    assert page.selectbox(key="explore_method").value == "ties"
    assert page.slider(key=weight_key("ties", "rotated")).value == 0.7
    assert page.slider(key="explore_ties_density").value == 0.3


def test_a_grid_becomes_a_sweep_in_the_background_that_can_be_stopped(page: AppTest) -> None:
    for axis in "ab":
        page.number_input(key=f"explore_axis_{axis}_task_arithmetic_steps").set_value(3)
    page.button(key="explore_grid_start").click().run()
    assert not page.exception and not page.error
    job = Jobs().find(page.session_state["explore_grid"]["job"])
    assert job.kind == "sweep" and "weight[0]=0.0,0.5,1.0" in " ".join(job.command)
    page.button(key="explore_grid_stop").click().run()
    assert not page.exception and (job.folder / "cancel").exists()


def test_without_models_the_page_says_what_to_do(page: AppTest) -> None:
    page.multiselect(key="explore_models").set_value([]).run()
    assert not page.exception and "Choose a base model" in page.info[0].value


def test_models_that_do_not_fit_are_refused_with_the_reason(page: AppTest) -> None:
    twin = str(next(iter(ZOO.twins.values())))
    page.multiselect(key="explore_models").set_value([MODELS[0], twin]).run()
    assert not page.exception and page.error


def test_a_base_that_cannot_read_digits_has_geometry_and_no_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERGING_UI_ROOTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(3)]
    for seed, name in enumerate(("origin", "left", "right")):
        (tmp_path / name).mkdir()
        generator = torch.Generator().manual_seed(seed)
        tensors = {each: torch.randn(4, 4, generator=generator) for each in names}
        save_file(tensors, tmp_path / name / "model.safetensors")
    page = opened(
        explore_base=str(tmp_path / "origin"), explore_models=[str(tmp_path / "left"), str(tmp_path / "right")]
    )
    assert not page.exception and not page.error
    assert any("No scores" in info.value for info in page.info) and numbers(page)["Norm"] != "–"
    page.selectbox(key="explore_method").set_value("ties").run()
    assert not page.exception and any("in its place" in caption.value for caption in page.caption)
