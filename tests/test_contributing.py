"""The worked example of CONTRIBUTING.md: a method is one file and its test, and everything else follows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.syntax import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
# Everything that discovers methods; where the whole suite would be run, this would run itself.
SUITES = (
    "tests/methods/test_median.py",
    "tests/laws",
    "tests/engine/test_executions.py",
    "tests/recipe",
    "tests/test_house.py",
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project with the example's two files, and nothing else changed."""
    for name in ("merging", "ui", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    method, test = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "merging" / "methods" / "median.py").write_text(method)
    (tmp_path / "tests" / "methods" / "test_median.py").write_text(test)
    return tmp_path


def called(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    plain = {key: value for key, value in os.environ.items() if key != "MERGING_CHECK_SHAPES"}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=folder, env=plain, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_one_file_and_its_test_are_a_method(copy: Path) -> None:
    tested = called(copy, "pytest", "-q", "-p", "no:cacheprovider", *SUITES, "-k", "median or house")
    assert tested.returncode == 0, tested.stdout
    assert int(re.findall(r"(\d+) passed", tested.stdout)[-1]) > 20


@pytest.mark.slow
def test_the_command_line_knows_the_new_method(copy: Path) -> None:
    explained = called(copy, "merging", "methods", "median").stdout
    assert "merged = median_i x_i" in explained and "merge_method: median" in explained
    recipe = copy / "median.yaml"
    recipe.write_text(
        "merge_method: median\nmodels:\n" + "".join(f"- model: data/zoo/{x}\n" for x in ("rotated", "base"))
    )
    assert called(copy, "merging", "run", str(recipe), "out").returncode == 0
    assert called(copy, "merging", "verify", "out").returncode == 0
