"""Running a driver by the interpreter that has another library, and measuring how far two results are apart."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = Mapping[str, Tensor]
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Oracle:
    """A library that lives in an environment of its own: `package` in `folder`, made by `target` of the Makefile."""

    package: str
    variable: str
    folder: str
    target: str

    def python(self) -> str:
        """An interpreter that has the library; skips, saying how to get one, where there is none."""
        here = sys.executable if importlib.util.find_spec(self.package) else None
        for candidate in (os.environ.get(self.variable), here, str(ROOT / self.folder / "bin" / "python")):
            if candidate and Path(candidate).exists():
                return candidate
        pytest.skip(
            f"NOT COMPARED WITH {self.package}: it is not installed; "
            f"run `make {self.target}`, or set {self.variable} to a python that has it"
        )

    def run(self, driver: str, folder: Path, work: Mapping[str, Any], tensors: Tensors) -> dict[str, Tensor]:
        """What the driver beside this file makes of the work and the tensors, in a process of its own."""
        save_file({name: x.clone().contiguous() for name, x in tensors.items()}, folder / "tensors.safetensors")
        files = {"tensors": str(folder / "tensors.safetensors"), "out": str(folder / "theirs.safetensors")}
        (folder / "work.json").write_text(json.dumps({**work, **files}))
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "PYTHONPATH": ""}
        command = [self.python(), str(Path(__file__).parent / driver), str(folder / "work.json")]
        ended = subprocess.run(command, env=offline, cwd=folder, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr[-3000:]
        return load_file(folder / "theirs.safetensors")


FUSION_BENCH = Oracle("fusion_bench", "MERGING_FUSION_PYTHON", ".venv-fusion", "oracle-fusion")
PEFT = Oracle("peft", "MERGING_ORACLE_PYTHON", ".venv-oracle", "oracle")


def apart(ours: Tensor, theirs: Tensor, size: float) -> float:
    """The largest difference of two tensors, as a share of `size`; infinite where their shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    largest = (ours.double() - theirs.double()).abs().max()
    return float(torch.nan_to_num(largest, nan=float("inf"))) / size


def size(*tensors: Tensor) -> float:
    """The largest magnitude among tensors."""
    return max(float(x.abs().max()) for x in tensors)
