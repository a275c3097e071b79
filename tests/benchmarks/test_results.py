"""Result files: compared, and turned into the README's table."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare, costs, streaming, tables
from benchmarks.quality import table as quality


def cost(seconds: float, peak_mib: float) -> dict[str, float]:
    times = {"wall_seconds": seconds, "user_seconds": seconds / 2, "system_seconds": seconds / 2}
    return {**times, "peak_bytes": peak_mib * 2**20, "read_bytes": 0, "written_bytes": 0}


def result(seconds: float, peak_mib: float) -> dict[str, Any]:
    rows = [
        {"recipe": "ties", "tool": "floor_fsync", "median": cost(2.0, 20)},
        {"recipe": "ties", "tool": "merging", "median": cost(seconds, peak_mib)},
        {"recipe": "ties", "tool": "mergekit", "median": cost(300.0, 5000)},
    ]
    machine = {"processor": "a processor", "cores": 2, "memory_gib": 23.5}
    facts = {"date": "2026-01-02T03:04:05+00:00", "commit": "0123456789abcdef", "changed_files": 0, "torch": "2.13.0"}
    facts |= {"load_average": 0.5}
    return {
        **{"benchmark": "streaming", "size": "1.1B", "models": 3, "interpreter": cost(1.0, 200)},
        **{"machine": machine, "rows": rows, **facts},
    }


def test_a_slower_run_is_a_regression_and_a_faster_one_is_not() -> None:
    slower = compare.changes(result(10.0, 300), result(12.0, 300))
    assert [change.is_regression(0.15) for change in slower] == [True, False]
    faster = compare.changes(result(10.0, 300), result(8.0, 200))
    assert not any(change.is_regression(0.15) for change in faster)


def test_a_difference_within_noise_is_no_regression_whatever_its_ratio() -> None:
    assert not any(change.is_regression(0.15) for change in compare.changes(result(0.1, 201), result(0.2, 210)))


def test_results_of_different_sizes_are_not_compared() -> None:
    with pytest.raises(SystemExit, match="cannot be compared"):
        compare.changes(result(1.0, 1), {**result(1.0, 1), "size": "3B"})


def test_a_regression_ends_the_command_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("old", 10.0), ("new", 20.0)):
        (tmp_path / name).write_text(json.dumps(result(seconds, 300)))
    monkeypatch.setattr(sys, "argv", ["compare", str(tmp_path / "old"), str(tmp_path / "new")])
    with pytest.raises(SystemExit) as ended:
        compare.main()
    assert ended.value.code == 1


def test_the_peers_rows_of_an_earlier_result_are_taken_from_the_same_machine_only() -> None:
    earlier, later = result(12.0, 300), result(10.0, 300)
    assert streaming.peer_rows(earlier, later, ["ties"]) == [{**earlier["rows"][2], "load_average": 0.5}]
    assert streaming.peer_rows(earlier, later, ["linear"]) == []
    elsewhere = {**earlier, "machine": {**earlier["machine"], "processor": "another processor"}}
    with pytest.raises(SystemExit, match="of another machine"):
        streaming.peer_rows(elsewhere, later, ["ties"])


def test_the_table_is_computed_from_the_figures() -> None:
    line = next(line for line in tables.streaming_table(result(4.0, 300)).splitlines() if line.startswith("| ties"))
    assert [cell.strip() for cell in line.split("|")[2:-1]] == [
        *("2.0", "4.0", "2.00", "1.50", "4.0", "100"),
        *("300.0", "300", "4800", "75.0"),
    ]


def test_a_peer_that_shared_the_cores_is_not_compared_by_its_seconds() -> None:
    quiet, busy = result(10.0, 300), result(10.0, 300)
    busy["rows"][2]["load_average"] = 4.3
    assert "compare its CPU seconds" in tables.streaming_table(busy)
    assert "compare its CPU seconds" not in tables.streaming_table(quiet)


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    begin, end = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    tables.write_tables(readme)
    written = readme.read_text()
    assert written.startswith(f"before\n{begin}\n") and written.endswith(f"{end}\nafter\n")
    assert "old" not in written


def test_figures_of_costs_are_those_of_the_newest_results(tmp_path: Path) -> None:
    row = {"method": "ties", "models": 3, "reach": "row", "readings": 3, "peak_bytes": 3 * 2**20, "merge": 4.0}
    row |= {"rounds": {"first": 1.5, "second": 0.5}, "nanoseconds_per_entry": 6.0}
    rows = [row, {**row, "method": "linear", "peak_bytes": None, "nanoseconds_per_entry": 0.5}]
    pair = {"what": "polar factor", "shape": [2, 3], "ours": 0.5, "plain": 1.0, "apart": 2e-6}
    facts = {key: value for key, value in result(1.0, 1).items() if key not in ("rows", "benchmark", "size")}
    page = tmp_path / "costs.md"
    page.write_text("".join(f"<!-- {name}:begin -->\nold\n<!-- {name}:end -->\n" for name in ("methods", "spectral")))
    with pytest.raises(SystemExit, match="no result yet"):
        costs.write_tables(page, tmp_path)
    for name, kept in (("methods", {"side": 8, "rows": rows}), ("spectral", {"rows": [pair]})):
        (tmp_path / f"{name}.json").write_text(json.dumps({"benchmark": name, **facts, **kept}))
    costs.write_tables(page, tmp_path)
    text = page.read_text()
    assert "old" not in text
    assert "| ties | 3 | rows | 3 | 2.0 | 4.0 | 6.0 | 3 |" in text
    assert text.index("| linear | 3 | rows | 3 | 2.0 | 4.0 | 0.5 | – |") < text.index("| ties |")
    assert "| polar factor | 2 × 3 | 0.500 | 1.000 | 2.0 | 2e-06 |" in text


@pytest.mark.parametrize(
    ("page", "write"),
    [
        (tables.ROOT / "README.md", tables.write_tables),
        (costs.PAGE, costs.write_tables),
        (quality.PAGE, quality.write_tables),
    ],
    ids=["readme", "costs", "quality"],
)
def test_the_tables_of_the_documents_are_those_of_the_kept_results(
    page: Path, write: Callable[[Path], None], tmp_path: Path
) -> None:
    again = tmp_path / page.name
    again.write_text(page.read_text())
    write(again)
    assert again.read_text() == page.read_text()
