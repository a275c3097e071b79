"""`merging compress` as a person calls it, and the commands that read a task back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import tiny
from tests.command_line import Call, caller
from tests.store.stores import recipe_of


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """The program."""
    return caller(capsys)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """EMR of two small fine-tunes."""
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_of(tiny.family(tmp_path, "llama", models=2), "emr"))
    return path


def test_it_says_what_it_takes_and_how_a_task_is_named(call: Call, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "tasks"
    shown = call("compress", recipe, out)
    assert shown.code == 0
    assert "2 tasks" in shown.err
    assert f"store:{out}#tuned-1, store:{out}#tuned-2" in shown.out
    listed = json.loads(call("inspect", f"store:{out}#tuned-2", "--json").out)
    assert listed["location"] == f"store:{out}#tuned-2"
    assert listed["family"] == "llama"
    assert "tokenizer.json" in listed["sidecars"]


def test_a_dry_run_writes_nothing(call: Call, recipe: Path, tmp_path: Path) -> None:
    shown = call("compress", recipe, tmp_path / "tasks", "--dry-run")
    assert (shown.code, shown.err) == (0, "")
    assert "2 tasks" in shown.out
    assert "of disk" in shown.out
    assert not (tmp_path / "tasks").exists()


def test_a_task_is_written_out_with_passthrough_and_verifies(call: Call, recipe: Path, tmp_path: Path) -> None:
    assert call("compress", recipe, tmp_path / "tasks", "--quiet").code == 0
    (tmp_path / "one.yaml").write_text("merge_method: passthrough\nmodels:\n- model: store:tasks#tuned-1\n")
    assert call("check", tmp_path / "one.yaml").code == 0
    assert call("run", tmp_path / "one.yaml", tmp_path / "one", "--quiet").code == 0
    assert call("verify", tmp_path / "one").code == 0


def test_a_store_is_replaced_only_if_that_is_said(call: Call, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "tasks"
    call("compress", recipe, out, "--quiet")
    refused = call("compress", recipe, out)
    assert refused.code == 1
    assert "pass --overwrite" in refused.err
    recipe.write_text(recipe.read_text().replace("emr", "tall_masks"))
    assert call("compress", recipe, out, "--overwrite", "--dry-run").code == 0
    assert json.loads((out / "store.json").read_text())["recipe"]["merge_method"] == "emr"
    assert call("compress", recipe, out, "--overwrite", "--quiet").code == 0
    assert json.loads((out / "store.json").read_text())["recipe"]["merge_method"] == "tall_masks"
    assert call("verify", out).code == 0


def test_events_come_as_lines_of_json(call: Call, recipe: Path, tmp_path: Path) -> None:
    lines = call("compress", recipe, tmp_path / "tasks", "--json-events").out.splitlines()
    kinds = [json.loads(line)["event"] for line in lines]
    assert kinds[0] == "RunStarted"
    assert kinds[-1] == "Sealed"


def test_a_store_as_a_model_is_told_its_tasks(call: Call, recipe: Path, tmp_path: Path) -> None:
    call("compress", recipe, tmp_path / "tasks", "--quiet")
    shown = call("inspect", tmp_path / "tasks")
    assert shown.code == 1
    assert f"store:{tmp_path / 'tasks'}#tuned-2" in shown.err


def test_a_store_is_compared_with_its_ledger(call: Call, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "tasks"
    call("compress", recipe, out, "--quiet")
    assert "tensors are as written" in call("verify", out).out
    vector = next(out.glob("vector*.safetensors"))
    content = bytearray(vector.read_bytes())
    content[-1] ^= 1
    vector.write_bytes(content)
    shown = call("verify", out)
    assert shown.code != 0 and "are not what was written" in shown.err
