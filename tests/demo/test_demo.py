"""The demo from its models on disk to its table, and to a merge that the recipe beside it makes again."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

import merging
from merging.checkpoint.shards import open_checkpoint
from merging.demo.demo import RECIPE, Table, render, run_demo
from merging.demo.scores import score
from merging.errors import OutputError

METHODS = ("linear", "task_arithmetic", "passthrough")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "merged"


@pytest.fixture(scope="module")
def table(out: Path) -> Table:
    return run_demo(out, METHODS)


def test_every_model_and_every_method_has_its_row_or_its_reason(table: Table) -> None:
    assert [row.name for row in table.models] == ["base", *table.tasks]
    assert {row.name for row in table.merges} | set(table.skipped) == set(METHODS)
    assert all(set(row.scores) == set(table.tasks) for row in (*table.models, *table.merges))
    assert all(row.seconds is not None for row in table.merges)


def test_merges_are_listed_from_worst_to_best(table: Table) -> None:
    means = [row.mean for row in table.merges]
    assert means == sorted(means)
    assert table.best == table.merges[-1].name


def test_the_best_merge_on_disk_has_the_scores_of_the_table(table: Table, out: Path) -> None:
    best = next(row for row in table.merges if row.name == table.best)
    assert score(open_checkpoint(out)) == best.scores


@pytest.mark.usefixtures("table")
def test_the_recipe_beside_the_merge_makes_it_again(out: Path, tmp_path: Path) -> None:
    merging.merge(out / RECIPE, tmp_path / "again")
    *_, verification = merging.verify(out, sample=None)
    assert verification.good
    first, second = open_checkpoint(out), open_checkpoint(tmp_path / "again")
    assert all(first.read(name).equal(second.read(name)) for name in first.specs)


def test_an_earlier_demo_is_replaced_and_anything_else_is_not(tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    run_demo(merged, ["linear"])
    assert run_demo(merged, ["linear"]).best == "linear"
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("precious")
    with pytest.raises(OutputError, match="is not empty"):
        run_demo(foreign, ["linear"])
    assert (foreign / "notes.txt").read_text() == "precious"


def test_the_table_on_the_screen_shows_every_row_and_what_was_left_out(table: Table) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(table))
    text = console.export_text()
    assert all(row.name in text for row in (*table.models, *table.merges))
    assert all(name in text and reason in text for name, reason in table.skipped.items())
