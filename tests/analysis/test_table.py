"""The tidy table: choosing rows, putting them together, and files that other programs read."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from merging.analysis.table import COLUMNS, Measurement, Table
from merging.errors import MergingError, MissingExtraError

TABLE = Table(
    (
        Measurement("a", "", 0, "mlp.up", "rank", "m1", None, 2.0, 10),
        Measurement("b", "", 0, "mlp.up", "rank", "m1", None, 4.0, 30),
        Measurement("b", "", 0, "mlp.up", "rank", "m2", None, 1.0, 30),
        Measurement("c", "other", 0, "head", "rank", "m1", None, 8.0, 5),
    )
)


def test_rows_are_chosen_by_a_value_or_by_any_of_several() -> None:
    assert [row.value for row in TABLE.where(i="m1", layer=0)] == [2.0, 4.0, 8.0]
    assert [row.value for row in TABLE.where(tensor=["a", "c"])] == [2.0, 8.0]
    assert not TABLE.where(i=None).rows


def test_layers_of_different_stacks_stay_apart() -> None:
    assert [(row.stack, row.layer, row.i, row.value) for row in TABLE.by("layer")] == [
        ("", 0, "m1", 6.0),
        ("", 0, "m2", 1.0),
        ("other", 0, "m1", 8.0),
    ]


@pytest.mark.parametrize(("how", "value"), [("sum", 6.0), ("mean", 3.0), ("weighted", 3.5)])
def test_rows_are_added_averaged_or_weighted_by_entries(how: str, value: float) -> None:
    row = TABLE.where(i="m1").by("role", how=how).rows[0]  # type: ignore[arg-type]
    assert (row.role, row.tensor, row.value, row.entries) == ("mlp.up", None, value, 40)


def test_without_columns_a_row_covers_whole_models() -> None:
    assert [(row[:4], row.i, row.value) for row in TABLE.by()] == [
        ((None, None, None, None), "m1", 14.0),
        ((None, None, None, None), "m2", 1.0),
    ]


def test_a_column_that_there_is_none_of_is_named() -> None:
    for ask in (lambda: TABLE.where(model="m1"), lambda: TABLE.by("model")):
        with pytest.raises(MergingError, match="model"):
            ask()


def test_csv_reads_back_with_empty_cells_for_what_is_not_said(tmp_path: Path) -> None:
    text = TABLE.csv(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == COLUMNS
    assert (rows[1]["tensor"], rows[1]["j"], float(rows[1]["value"])) == ("b", "", 4.0)
    quoted = Table((TABLE.rows[0]._replace(tensor='odd, "name"\n'),)).csv()
    assert next(csv.DictReader(io.StringIO(quoted)))["tensor"] == 'odd, "name"\n'


def test_parquet_reads_back_with_nulls_and_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    TABLE.parquet(tmp_path / "t.parquet")
    assert parquet.read_table(tmp_path / "t.parquet").to_pylist() == TABLE.records()
    Table().parquet(tmp_path / "empty.parquet")
    assert parquet.read_table(tmp_path / "empty.parquet").num_rows == 0


def test_without_pyarrow_the_install_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError) as refused:
        TABLE.parquet(tmp_path / "t.parquet")
    assert "pip install pyarrow, or write a .csv" in str(refused.value)
