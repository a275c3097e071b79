"""FusionBench's merges, all made in one process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from tests.oracles import fusion_models
from tests.oracles.fusion_cases import different
from tests.oracles.fusion_kinds import cases
from tests.oracles.interpreter import FUSION_BENCH

DTYPES = ["float32", "float64"]
Work = tuple[list[dict[str, Any]], dict[str, Tensor]]


@dataclass(frozen=True)
class Fusion:
    """The folder with the families of models, and their merge of every case by "case/dtype/tensor"."""

    folder: Path
    merged: Mapping[str, Tensor] = field(repr=False)

    def model(self, case: str, dtype: str) -> dict[str, Tensor]:
        """A whole merged model."""
        prefix = f"{case}/{dtype}/"
        return {name.removeprefix(prefix): x for name, x in self.merged.items() if name.startswith(prefix)}


@pytest.fixture(scope="session")
def fusion(tmp_path_factory: pytest.TempPathFactory) -> Fusion:
    """Their merges of single tensors and of whole models."""
    FUSION_BENCH.python()
    folder = tmp_path_factory.mktemp("fusion")
    fusion_models.write(folder)
    singles, models = _singles(), _models()
    made = FUSION_BENCH.run("fusion_driver.py", folder, {"cases": singles[0] + models[0]}, singles[1] | models[1])
    return Fusion(folder, made)


def _singles() -> Work:
    work, tensors = [], {}
    for name, case in {**cases(), **different()}.items():
        told = {"name": name, "algorithm": name.rpartition("-")[0], "settings": case.settings, "dtypes": DTYPES}
        work.append({**told, "held": name, "models": len(case.tuned), "plain": []})
        tensors |= {f"{name}/{k}/{case.tensor}": x for k, x in enumerate([case.base, *case.tuned])}
        tensors |= {f"{name}/beside/{k}.{case.tensor}": x for k, x in enumerate(case.beside)}
    return work, tensors


def _models() -> Work:
    work, tensors = [], {}
    for family, name in fusion_models.PAIRS:
        merge = fusion_models.MERGES[name]
        told = {"algorithm": merge.algorithm, "settings": merge.settings, "dtypes": DTYPES}
        told |= {"models": fusion_models.MODELS, "plain": fusion_models.tables(family)}
        work.append({**told, "name": f"{family}-{name}", "held": family})
    for family in fusion_models.SIZES:
        held = [fusion_models.tensors(family)[0], *fusion_models.tuned(family)]
        tensors |= {f"{family}/{k}/{name}": x for k, each in enumerate(held) for name, x in each.items()}
    return work, tensors
