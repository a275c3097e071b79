from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.application import Application
from merging.methods.apply import merge_tensor
from merging.methods.declare import find_method
from tests.methods.together import measured_together
from tests.methods.transcription import task_vectors


def scaled(row):
    low, high = min(row), max(row)
    return [(entry - low) / (high - low) if high > low else 0.0 for entry in row]


def transcription(x, density, clip, variant):
    """The authors' programs in plain loops; x (models, d) over all parameters."""
    models, d = x.shape
    total = x.sum(0)
    clipped, share = np.zeros_like(x), np.zeros_like(x)
    for i in range(models):
        ordered = sorted(abs(x[i]))
        low, high = ordered[int(d * clip)], ordered[int(d * (1 - clip) - 1)]
        magnitude = [min(max(abs(entry), low), high) for entry in x[i]]
        clipped[i] = np.sign(x[i]) * magnitude
        share[i] = scaled(magnitude)
    weights = np.zeros_like(x)
    for i in range(models):
        balance = []
        for k in range(d):
            if variant == "nlp":
                inter = np.tanh(x[i, k] * total[k])
            else:
                sign = np.sign(x[:, k])
                inter = sum(np.tanh(sign[i] * share[i, k] * sign[j] * share[j, k]) for j in range(models))
            balance.append(np.exp(models * share[i, k] ** 2) * inter)
        low = sorted(balance)[int(d * (1 - density))]
        weights[i] = scaled([max(entry, low) for entry in balance])
    return (clipped * weights).sum(0) / np.maximum(weights.sum(0), 1e-12)


def pcb(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("pcb", x, torch.zeros(x.shape[1:]), **parameters)


def changes(models, scale=1.0, n=301):
    generator = np.random.default_rng(models)
    return (generator.standard_normal((models, n)) * scale).astype(np.float32)


@pytest.mark.parametrize("variant", ["nlp", "vision"])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.7, 0.99, 1.0])
@pytest.mark.parametrize("models, clip", [(1, 0.01), (2, 0.0), (3, 0.1), (8, 0.01)])
def test_the_authors_programs(variant, density, models, clip):
    x = changes(models)
    expected = transcription(x.astype(np.float64), density, clip, variant)
    # An entry at the threshold has weight 0 here and may have any tiny one in float64.
    found = pcb(x, density=density, clip=clip, variant=variant).numpy()
    wrong = np.abs(found - expected) > 1e-4 * np.abs(expected) + 1e-6
    assert wrong.sum() <= models if density == 1 else not wrong.any()


def test_the_scale_of_the_merged_task_vector_is_lambda():
    x = changes(3)
    assert torch.allclose(pcb(x, lambda_=1.5), pcb(x) * 1.5)


def test_small_changes_are_balanced_as_large_ones_by_their_shares():
    x = torch.from_numpy(changes(3))
    assert torch.allclose(pcb(x * 2.0**-20, variant="vision") * 2.0**20, pcb(x, variant="vision"), rtol=1e-6)


def test_many_models_do_not_overflow():
    assert pcb(changes(100, n=64), density=0.5).isfinite().all()


def test_models_that_pull_against_the_others_lose_their_entries():
    x = torch.tensor([[5.0, 1.0, 2.0, 3.0, 4.0], [5.0, 1.0, -2.0, 3.0, 4.0], [-4.0, 1.0, -2.0, 3.0, 4.0]])
    found = pcb(x, density=0.5, clip=0.0)
    assert found[0] == pytest.approx(5.0)


@pytest.mark.parametrize("variant", ["nlp", "vision"])
def test_a_model_whose_magnitudes_are_all_equal_has_no_weight(variant):
    x = torch.from_numpy(changes(1))
    flat = torch.cat([x, torch.full_like(x, 0.5)])
    alone = torch.cat([x, torch.zeros_like(x)])
    for both in (flat, alone):
        merged = pcb(both, density=0.3, clip=0.0, variant=variant)
        assert merged.any()
        assert torch.allclose(merged, torch.where(merged == 0, 0, x[0]))


def test_density_zero_gives_the_base_model():
    assert not pcb(changes(2), density=0.0).any()


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("clip", [0.0, 0.01, 0.5, 1.0])
def test_tiny_models_stay_finite(n, clip):
    assert pcb(changes(2, n=n), clip=clip).isfinite().all()


def test_places_are_those_of_all_tensors_together():
    x = torch.from_numpy(task_vectors(seed=5, n=400))
    small, large = x[:, :100] * 0.01, x[:, 100:]
    use = Application(find_method("pcb"), {"variant": "vision"}, len(x))
    measured = measured_together(use, (small, large))
    found = torch.cat([use.merge(part, measured) for part in (small, large)])
    np.testing.assert_allclose(found, pcb(torch.cat([small, large], 1), variant="vision"), rtol=1e-5)
    assert not found[:100].any()
