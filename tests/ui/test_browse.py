"""The page that looks into checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from merging import find_zoo
from tests.store.stores import kept_of
from ui.places import refusal, roots, short

VIEW = Path(__file__).parent.parent.parent / "ui" / "views" / "browse.py"


@pytest.fixture
def page() -> AppTest:
    return AppTest.from_file(str(VIEW), default_timeout=60).run()


def test_the_bundled_base_is_shown_at_first(page: AppTest) -> None:
    assert not page.exception
    facts = {metric.label: metric.value for metric in page.metric}
    assert (facts["Family"], facts["Layers"], facts["Tensors"]) == ("vit", "4", "72")


def test_the_list_is_narrowed_by_name_layer_and_role(page: AppTest) -> None:
    page.text_input(key="browse_name").input("KEY.weight").run()
    page.selectbox(key="browse_layer").select(2).run()
    (row,) = page.dataframe[0].value.to_dict("records")
    assert row["tensor"] == "vit.encoder.layer.2.attention.attention.key.weight"
    page.text_input(key="browse_name").input("no such tensor").run()
    assert "No tensor matches" in page.info[0].value


def test_two_checkpoints_are_compared_by_name_and_shape(page: AppTest) -> None:
    page.selectbox(key="browse_other").select(str(find_zoo().fine_tunes["rotated"])).run()
    assert not page.exception
    assert set(page.dataframe[0].value["compared"]) == {"in both"}


def test_a_path_outside_the_roots_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGING_UI_ROOTS", str(tmp_path / "allowed"))
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "link").symlink_to(tmp_path)
    assert roots() == (tmp_path / "allowed",)
    assert refusal(str(tmp_path / "allowed" / "model")) is None
    assert refusal(str(find_zoo().base)) is None
    for path in (tmp_path, tmp_path / "allowed" / ".." / "else", tmp_path / "allowed" / "link"):
        assert "outside" in str(refusal(str(path)))
    assert "outside" in str(refusal(f"{find_zoo().base}+/etc"))


def test_a_task_of_a_store_is_refused_where_its_base_model_lies_outside_the_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = f"store:{kept_of(tmp_path, kind='llama', models=2).folder}#1"
    monkeypatch.setenv("MERGING_UI_ROOTS", str(tmp_path))
    assert refusal(task) is None
    monkeypatch.setenv("MERGING_UI_ROOTS", str(tmp_path / "store"))
    assert "outside" in str(refusal(task))


def test_an_adapter_is_called_after_both_its_parts() -> None:
    assert short("models/base/+adapters/rotated") == "base + rotated"


def test_what_is_no_path_is_refused_and_not_an_error() -> None:
    assert "no path" in str(refusal("~nobody-of-this-name/model"))
    assert "no path" in str(refusal("model\0"))
