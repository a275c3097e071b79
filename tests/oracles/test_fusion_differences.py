"""Where we differ from FusionBench 0.2.33 by choice, and that this is all the difference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import merging
from tests.oracles import fusion_models
from tests.oracles.conftest import Fusion
from tests.oracles.fusion_cases import different
from tests.oracles.fusion_kinds import cases
from tests.oracles.interpreter import apart, size


def changes(fusion: Fusion, name: str) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Our change of the base model, theirs, and the task vectors; float64."""
    case = different()[name]
    base = case.base.double()
    theirs = fusion.merged[f"{name}/float64/{case.tensor}"] - base
    return case.ours().double() - base, theirs, [x.double() - base for x in case.tuned]


def test_iso_c_leaves_directions_alone_that_no_task_vector_has_and_theirs_raises_arbitrary_ones(fusion: Fusion) -> None:
    ours, theirs, task_vectors = changes(fusion, "iso_c-low")
    u, _, vt = torch.linalg.svd(sum(task_vectors), full_matrices=False)
    seen = u[:, :6] @ u[:, :6].T @ theirs @ vt[:6].T @ vt[:6]
    assert apart(ours, seen, size(seen)) < 2.0**-18
    assert (theirs - seen).norm() > 0.5 * seen.norm()


def test_opcm_keeps_what_the_sum_so_far_has_no_direction_for_and_theirs_drops_some_of_it(fusion: Fusion) -> None:
    ours, theirs, (first, _) = changes(fusion, "opcm-low")
    u = torch.linalg.svd(first, full_matrices=False)[0]
    mine, other = u[:, :2].T @ ours, u[:, :2].T @ theirs
    factor = other.norm() / mine.norm()
    assert apart(mine * factor, other, size(other)) < 2.0**-18
    assert (ours * factor - theirs).norm() > 0.01 * theirs.norm()


def test_more_tasks_than_directions_are_averaged_by_tsv_and_dropped_by_theirs(fusion: Fusion) -> None:
    ours, theirs, task_vectors = changes(fusion, "tsv-many")
    assert not theirs.any()
    assert apart(ours, torch.stack(task_vectors).mean(0), size(ours)) < 2.0**-18


@pytest.mark.parametrize("family", fusion_models.MERGES[fusion_models.SCALED].families)
def test_their_rescaler_of_emr_counts_every_tensor_alike_and_differs_by_one_factor(fusion: Fusion, family: str) -> None:
    name, base = fusion_models.SCALED, fusion_models.tensors(family)[0]
    ours, theirs = fusion_models.ours(fusion.folder, family, name), fusion.model(f"{family}-{name}", "float64")
    changes = {tensor: (theirs[tensor] - x, ours[tensor].double() - x) for tensor, x in base.items()}
    factors = [float(b.abs().sum() / a.abs().sum()) for a, b in changes.values()]
    assert max(factors) - min(factors) < 1e-4
    assert abs(factors[0] - 1) > 1e-3


@pytest.mark.parametrize("name", [name for name in cases() if name.startswith("trust_region-")])
def test_the_same_trust_region_is_at_most_one_entry_larger_than_theirs(fusion: Fusion, name: str) -> None:
    case = cases()[name]
    told = {"lambda_": case.settings["scaling_factor"], "density": case.settings["threshold_quantile"]}
    ours = merging.merge_tensor("trust_region", case.tuned, case.base, **told)
    theirs = fusion.merged[f"{name}/float64/{case.tensor}"]
    more = (ours - theirs).abs() > 2.0**-20
    assert int(more.sum()) <= 1
    assert torch.equal(theirs[more], case.base[more].double())
