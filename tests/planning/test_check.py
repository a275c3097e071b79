from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from merging.errors import MergingError, OutputError
from merging.planning import check as module
from merging.planning.check import Report, check
from tests import tiny
from tests.planning.models import TIES, models, without


def _check(out: Path | None = None, **options: bool) -> Report:
    return check(TIES, out=out, checkpoints=models(), **options)


def test_a_good_recipe_reports_what_it_will_cost() -> None:
    report = _check()
    assert report.good and report.problems == () and report.plan is not None
    assert report.tensors == 21
    weights = sum(spec.nbytes for spec in models()["base"].specs.values())
    assert report.read_bytes == 9 * weights
    assert weights < report.disk_bytes < weights + (2 << 20)
    assert 0 < report.memory_bytes < 64 << 20
    assert report.free_bytes is None


def test_memory_is_never_more_than_allowed() -> None:
    assert check(TIES, checkpoints=models(), memory=8 << 20).memory_bytes <= 8 << 20
    (refused,) = check(TIES, checkpoints=models(), memory=1 << 20).problems
    assert "ties needs buffers in memory" in refused.what


def test_problems_are_collected_and_can_be_raised() -> None:
    found = models()
    found["a"] = without(found["a"], "model.norm.weight")
    report = check(TIES.replace("0.4", "4"), checkpoints=found)
    assert not report.good and report.plan is None and report.disk_bytes == 0
    assert len(report.problems) == 2
    with pytest.raises(MergingError):
        report.raise_problems()


def test_a_recipe_that_cannot_be_read_is_reported_not_raised() -> None:
    assert not check("merge_method: ties\nmodels: 3\n").good
    assert not check("merge_method: nosuch\nmodels: [{model: a}]\n").good


def test_a_new_or_empty_target_is_good(tmp_path: Path) -> None:
    assert _check(tmp_path / "new" / "folder").good
    report = _check(tmp_path)
    assert report.good and report.free_bytes is not None and report.free_bytes > 0


def test_a_target_that_holds_something_is_refused_unless_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (refused,) = _check(tmp_path).problems
    assert isinstance(refused, OutputError)
    assert refused.what == f"{tmp_path} is not empty" and refused.where == "notes.txt"
    assert _check(tmp_path, overwrite=True).good


def test_an_unfinished_merge_can_be_resumed(tmp_path: Path) -> None:
    (tmp_path / ".merging").mkdir()
    (tmp_path / "model.safetensors.partial").write_bytes(b"")
    assert _check(tmp_path).good
    assert not _check(tmp_path, resume=False).good


def test_a_file_is_no_target(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (refused,) = _check(tmp_path / "file", overwrite=True).problems
    assert "is a file" in refused.what


def test_a_full_disk_is_noticed_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_free_bytes", lambda _: 1000)
    (refused,) = _check(tmp_path).problems
    assert "has 1,000 bytes free, and the output takes" in refused.what


def test_weights_that_do_not_stay_need_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_free_bytes", lambda _: module.EXTRA_BYTES)
    assert not _check(tmp_path).good
    report = _check(tmp_path, keeps_weights=False)
    assert report.good and report.disk_bytes == module.EXTRA_BYTES


def test_nothing_is_written(tmp_path: Path) -> None:
    _check(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_checking_imports_neither_torch_nor_numpy_nor_pydantic(tmp_path: Path) -> None:
    tiny.family(tmp_path, "llama", models=2, shards=2)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(TIES.replace("[{model: a}, {model: b}]", "[{model: tuned-1}, {model: tuned-2}]"))
    script = (
        "import sys; from merging.planning.check import check; from merging.planning.explain import explain, text\n"
        f"report = check({str(recipe)!r}, out={str(tmp_path / 'out')!r}); assert report.good, report.problems\n"
        "text(explain(report.plan))\n"
        "print([name for name in ('torch', 'numpy', 'pydantic', 'rich', 'jaxtyping') if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={"PATH": ""},
    )
    assert shown.stdout.strip() == "[]"
