"""What a process took is seen from outside it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.measure import Cost, measure, middle


def test_peak_and_bytes_of_a_process_are_its_own(tmp_path: Path) -> None:
    program = "import sys; x = bytearray(64 << 20); open(sys.argv[1], 'wb').write(x[: 1 << 20])"
    cost = measure([sys.executable, "-c", program, str(tmp_path / "out")], tmp_path / "log")
    assert cost.peak_bytes > 64 << 20
    assert 1 << 20 <= cost.written_bytes < 2 << 20
    assert cost.wall_seconds > 0


def test_a_failing_command_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 3:\nwhat went wrong"):
        measure([sys.executable, "-c", "print('what went wrong'); raise SystemExit(3)"], tmp_path / "log")


def test_the_middle_of_several_runs_is_taken_figure_by_figure() -> None:
    costs = [Cost(1.0, 5.0, 0.0, 10, 0, 0), Cost(2.0, 4.0, 0.0, 30, 0, 0), Cost(9.0, 6.0, 0.0, 20, 0, 0)]
    assert middle(costs) == Cost(2.0, 5.0, 0.0, 20, 0, 0)
