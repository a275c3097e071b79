"""Diagnoses that are kept: recalled without reading, measured again where that fails, saved and loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from merging.analysis.diagnose import Diagnosis, diagnose
from merging.checkpoint.tensors import MemoryCheckpoint
from merging.errors import CheckpointError
from tests import tiny
from tests.analysis.vectors import equal, of_tensors, vectors


class Counted(MemoryCheckpoint):
    """Counts how often it is read."""

    reads = 0

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        self.reads += 1
        return super().read(name, start, stop)


def test_a_diagnosis_is_recalled_without_reading_a_weight(tmp_path: Path) -> None:
    base, tuned = vectors(1)
    first, second = Counted({"w": base}, location="base"), Counted({"w": tuned}, location="m")
    made = diagnose([second], first, cache=tmp_path)
    reads = first.reads + second.reads
    told: list[tuple[int, int]] = []
    moved = Counted({"w": tuned}, location="elsewhere")
    recalled = diagnose([moved], first, cache=tmp_path, watch=lambda *seen: told.append(seen))
    assert (first.reads + second.reads, moved.reads, told) == (reads, 0, [])
    assert equal(made, recalled) and recalled.models == ("elsewhere",)
    other = Counted({"w": tuned + 1}, location="m")
    diagnose([other], first, cache=tmp_path)
    assert other.reads > 0


def test_the_cache_is_in_the_users_cache_folder_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    base, tuned = (MemoryCheckpoint({"w": each}) for each in vectors(1))
    found = diagnose([tuned], base)
    assert (tmp_path / "merging" / "diagnoses" / f"{found.fingerprint}.safetensors").is_file()


@pytest.mark.parametrize("spoil", [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}      "], ids=["empty", "short", "other"])
def test_what_cannot_be_recalled_is_measured_again(tmp_path: Path, spoil: bytes) -> None:
    base, tuned = (MemoryCheckpoint({"w": each}) for each in vectors(1))
    made = diagnose([tuned], base, cache=tmp_path)
    kept = tmp_path / f"{made.fingerprint}.safetensors"
    kept.write_bytes(spoil)
    assert equal(made, diagnose([tuned], base, cache=tmp_path))
    assert equal(made, Diagnosis.load(kept))


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    base, tuned = (MemoryCheckpoint({"w": each}) for each in vectors(1))
    assert diagnose([tuned], base, cache=tmp_path / "file" / "folder").tensors


def test_a_saved_diagnosis_reads_back_equal_and_other_files_are_refused(tmp_path: Path) -> None:
    base, *tuned = vectors(2)
    found = of_tensors({"w": base}, [{"w": each} for each in tuned])
    found.save(tmp_path / "d.safetensors")
    again = Diagnosis.load(tmp_path / "d.safetensors")
    assert equal(found, again)
    assert (again.base, again.models, again.tensors, again.warnings) == (
        found.base,
        found.models,
        found.tensors,
        found.warnings,
    )
    assert found.table().csv() == again.table().csv()
    folder = tiny.family(tmp_path, models=0).base
    with pytest.raises(CheckpointError):
        Diagnosis.load(folder / "model.safetensors")
    with pytest.raises(CheckpointError):
        Diagnosis.load(tmp_path / "nothing")
