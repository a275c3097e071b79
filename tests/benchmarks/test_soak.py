"""What readings of a server's memory tell about its growth."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.soak import MIB, Sample, memory_of, report, server_of, slope, summary

ROLLUP = """55d0c0de0000-7ffec0ded000 ---p 00000000 00:00 0                          [rollup]
Rss:              412340 kB
Pss:              401120 kB
Pss_Anon:         350004 kB
Pss_File:          51116 kB
Shared_Clean:      22440 kB
Anonymous:        350008 kB
AnonHugePages:     10240 kB
"""


def sample(minute: float, mib: float, **others: int) -> Sample:
    size = int(mib * MIB)
    return Sample(
        60 * minute, **{"rss": size, "pss": size, "anonymous": size, "threads": 9, "rounds": 0, "sessions": 0} | others
    )


def test_what_the_kernel_tells_is_read_in_bytes_by_its_exact_names() -> None:
    assert memory_of(ROLLUP) == {"rss": 412340 * 1024, "pss": 401120 * 1024, "anonymous": 350008 * 1024}


def test_a_text_without_a_kind_of_memory_is_refused_with_its_name() -> None:
    with pytest.raises(ValueError, match="no Pss in"):
        memory_of(ROLLUP.replace("Pss:", "Other:"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it in /proc")
def test_the_kernel_of_this_machine_is_understood() -> None:
    held = memory_of(Path(f"/proc/{os.getpid()}/smaps_rollup").read_text())
    assert held["rss"] >= held["pss"] > 0


@settings(max_examples=30, deadline=None)
@given(
    st.floats(-50, 50),
    st.floats(-1e3, 1e3),
    st.lists(st.integers(0, 500), min_size=2, max_size=30, unique=True),
)
def test_the_slope_of_a_straight_line_is_its_own(rise: float, start: float, places: list[int]) -> None:
    assert slope([(x, start + rise * x) for x in places]) == pytest.approx(rise, abs=1e-6)


def test_a_few_readings_in_the_midst_of_a_merge_do_not_move_the_slope() -> None:
    calm = [(float(x), 300.0) for x in range(40)]
    assert slope([(x, 900.0 if x in (31, 35, 39) else y) for x, y in calm]) == 0.0


def test_one_reading_has_no_slope() -> None:
    assert slope([(1.0, 5.0)]) == slope([]) == 0.0


def test_the_warm_up_is_left_out() -> None:
    warming = [sample(minute, 100 + 100 * minute, rounds=1) for minute in range(5)]
    told = summary([*warming, *(sample(minute, 600, rounds=minute, sessions=2 * minute) for minute in range(5, 31))], 5)
    assert told["rss"] == {"slope_mib_per_minute": 0.0, "start_mib": 600.0, "end_mib": 600.0, "peak_mib": 600.0}
    assert (told["minutes"], told["rounds"], told["sessions"]) == (25.0, 25, 50)


def test_a_server_that_grows_is_told_by_its_slope_and_its_ends() -> None:
    told = summary([sample(minute / 4, 300 + minute / 2) for minute in range(121)], 5)["pss"]
    assert told["slope_mib_per_minute"] == 2.0
    assert told["end_mib"] - told["start_mib"] == pytest.approx(2 * (25 - 3))
    assert told["peak_mib"] == 360.0


def test_a_run_that_never_got_warm_is_refused() -> None:
    with pytest.raises(ValueError, match="first 5 minutes"):
        summary([sample(1, 300), sample(2, 300)], 5)


def test_the_report_names_every_kind_with_its_slope() -> None:
    lines = report(summary([sample(minute, 300 - minute) for minute in range(31)], 5)).splitlines()
    assert "25.0 minutes" in lines[0]
    assert [line.split()[:2] for line in lines[1:]] == [[kind, "-1.000"] for kind in ("rss", "pss", "anonymous")]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it in /proc")
def test_the_server_is_the_child_of_the_command() -> None:
    import subprocess

    command = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'input()']).pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout
        begun = int(starter.stdout.readline())
        assert server_of(starter.pid) == begun
        starter.communicate("\n")
