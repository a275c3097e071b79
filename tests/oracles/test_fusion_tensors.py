"""Single tensors merged with random settings, against FusionBench 0.2.33."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import merging
from tests.oracles.conftest import DTYPES, Fusion
from tests.oracles.fusion_kinds import KINDS, cases
from tests.oracles.interpreter import apart, size

CASES = cases()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_merged_with_random_settings_is_fusion_benchs(fusion: Fusion, name: str, dtype: str) -> None:
    case, kind = CASES[name], KINDS[name.rpartition("-")[0]]
    theirs = fusion.merged[f"{name}/{dtype}/{case.tensor}"]
    allowed = kind.exact if dtype == "float64" else kind.rounded
    assert apart(case.ours(), theirs, size(case.base, theirs)) <= allowed, case


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("wudi-")])
def test_wudis_closed_form_is_no_further_from_all_tasks_than_their_descent(fusion: Fusion, name: str) -> None:
    case = CASES[name]

    def objective(merged: Tensor) -> float:
        changes = [each.double() - case.base.double() for each in case.tuned]
        tau = merged.double() - case.base.double()
        return sum(float(((tau - x) @ x.T).square().sum() / x.square().sum()) for x in changes)

    closed = merging.merge_tensor("wudi", [x.double() for x in case.tuned], case.base.double())
    theirs = fusion.merged[f"{name}/float64/{case.tensor}"]
    assert torch.isfinite(closed).all()
    assert objective(closed) <= objective(theirs)
