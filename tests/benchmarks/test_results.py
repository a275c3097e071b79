"""Result files: compared, and turned into the README's table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare, streaming, tables


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
    assert streaming.peer_rows(earlier, later, ["ties"]) == [earlier["rows"][2]]
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


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    tables.write_tables(readme)
    written = readme.read_text()
    assert written.startswith(f"before\n{tables.BEGIN}\n") and written.endswith(f"{tables.END}\nafter\n")
    assert "old" not in written
