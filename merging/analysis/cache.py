"""Diagnoses that were made before, kept by the fingerprint of what they are about."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from merging.analysis.diagnosis import Diagnosis
from merging.analysis.files import read_diagnosis, write_diagnosis
from merging.errors import MergingError


def cache_folder(cache: bool | Path) -> Path | None:
    """Where diagnoses are kept: the given folder, or $XDG_CACHE_HOME/merging/diagnoses, by default ~/.cache.

    None where nothing is to be kept, or there is no home to keep it in.
    """
    if isinstance(cache, Path):
        return cache
    if not cache:
        return None
    given = os.environ.get("XDG_CACHE_HOME", "")
    with suppress(RuntimeError):
        root = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
        return root / "merging" / "diagnoses"
    return None


def recall(folder: Path | None, fingerprint: str, base: str, models: tuple[str, ...]) -> Diagnosis | None:
    """What is known of models of this fingerprint, under the names they have now; None for what cannot be read."""
    if folder is None:
        return None
    path = folder / f"{fingerprint}.safetensors"
    with suppress(MergingError, OSError):
        if path.is_file():
            known = read_diagnosis(path)
            if known.fingerprint == fingerprint and len(known.models) == len(models):
                return replace(known, base=base, models=models)
    return None


def remember(folder: Path | None, diagnosis: Diagnosis) -> None:
    """Keep a diagnosis; where that is not possible, a cache is not worth an error."""
    if folder is None:
        return
    with suppress(MergingError, OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_diagnosis(diagnosis, folder / f"{diagnosis.fingerprint}.safetensors")
