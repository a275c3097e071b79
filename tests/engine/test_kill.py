"""A merge killed anywhere and resumed gives the bytes of one that was never interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="victims are forks")
@pytest.mark.parametrize(("way", "count"), [("local", 200), ("shards", 60), ("streamed", 60)])
def test_resuming_after_random_kills_gives_identical_bytes(way: str, count: int, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.engine.kill_points", str(tmp_path), "7", str(count), way]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"checked {count} kill points of"), done.stdout
