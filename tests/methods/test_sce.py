from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor
from merging.methods.declare import find_method
from tests.methods.transcription import task_vectors


def transcription(x, topk, variant):
    """The paper's three steps, the authors' program, and mergekit; x (models, d) with distinct variances, or none."""
    models, d = x.shape
    variances = [float(np.var(x[:, i])) for i in range(d)]
    varying = sum(value != 0 for value in variances)
    # mergekit multiplies an integer tensor, in float32.
    number = int(np.float32(topk) * np.float32(varying)) if variant == "mergekit" else int(topk * varying)
    whole = topk == 1 or (not varying and variant != "mergekit")
    keep = set(range(d)) if whole else set(np.argsort(variances)[d - number :])
    selected = np.array([[row[i] if i in keep else 0 for i in range(d)] for row in x])
    squares = [sum(entry**2 for entry in row) / d for row in selected]
    equal = sum(squares) == 0 or (variant == "mergekit" and sum(squares) < 1e-6)
    weights = [1 / models if equal else square / sum(squares) for square in squares]
    entries = x if variant == "fuseai" else selected
    result = np.zeros(d)
    for i in range(d):
        sign = 1 if sum(entries[:, i]) >= 0 else -1
        agree = [j for j in range(models) if np.sign(entries[j, i]) == sign]
        divisor = sum(weights[j] for j in agree)
        divisor = max(divisor, 1e-6) if variant == "mergekit" else divisor or 1
        result[i] = sum(weights[j] * entries[j, i] for j in agree) / divisor
    return result


def sce(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("sce", x, torch.zeros(x.shape[1:]), **parameters)


@pytest.mark.parametrize("topk", [0.0, 0.004, 0.1, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("variant", ["paper", "fuseai", "mergekit"])
@pytest.mark.parametrize("models", [2, 3, 5])
def test_every_variant_is_that_of_the_transcription(topk, variant, models):
    x = task_vectors(seed=models, models=models, n=211)
    expected = transcription(x.astype(np.float64), topk, variant)
    np.testing.assert_allclose(sce(x, select_topk=topk, variant=variant), expected, rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-5, 1e-2])
def test_small_changes_have_equal_weights_in_mergekit_alone(scale):
    x = (np.random.default_rng(0).standard_normal((2, 50)) * [[1.0], [3.0]] * scale).astype(np.float32)
    for variant in ("paper", "fuseai", "mergekit"):
        expected = transcription(x.astype(np.float64), 1.0, variant)
        np.testing.assert_allclose(sce(x, variant=variant), expected, rtol=2e-5)
    paper, mergekit = sce(x, variant="paper"), sce(x, variant="mergekit")
    assert torch.allclose(paper, mergekit, rtol=1e-5, atol=0) == (scale == 1e-2)


def test_a_weight_of_nearly_nothing_is_not_divided_by_in_mergekit():
    x = [[1e-5, 0.0], [0.0, 10.0]]
    assert sce(x, variant="paper")[0] == pytest.approx(1e-5)
    assert sce(x, variant="mergekit")[0] == pytest.approx(1e-5 * 1e-12 / 1e-6, rel=1e-4)


@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_the_default_selects_everything_as_mergekit_weighs_it(scale):
    x = task_vectors(seed=7) * np.float32(scale)
    expected = transcription(x.astype(np.float64), 1.0, "mergekit")
    np.testing.assert_allclose(sce(x), expected, rtol=2e-5, atol=1e-8 * scale)


def test_the_share_of_entries_is_multiplied_as_mergekit_does():
    x = task_vectors(seed=5, n=100)
    assert sce(x, select_topk=0.29).count_nonzero() == 29
    assert sce(x, select_topk=0.29, variant="paper").count_nonzero() == 28


def test_entries_of_equal_variance_are_selected_together():
    x = [[1.0, 3.0, 3.0, 5.0], [1.0, 1.0, 1.0, 1.0]]
    assert sce(x, select_topk=0.67).count_nonzero() == 3


def test_positions_on_which_models_agree_are_not_counted_in_the_share():
    x = torch.cat([torch.ones(2, 90), torch.tensor([[1.0] * 10, [-2.0] * 5 + [3.0] * 5])], 1)
    assert sce(x, select_topk=0.5).count_nonzero() == 5


@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize("topk", [0.0, 0.3, 1.0])
def test_models_without_any_variance_are_selected_whole(models, topk):
    x = torch.from_numpy(task_vectors(seed=1, models=1))
    assert torch.allclose(sce(x.expand(models, -1), select_topk=topk, variant="paper"), x[0], rtol=1e-6)
    assert torch.allclose(sce(x.expand(models, -1), select_topk=topk), x[0] * (topk == 1), rtol=1e-6)


def test_an_unchanged_model_has_no_say():
    x = torch.from_numpy(task_vectors(seed=2, models=1))
    assert torch.equal(sce(torch.cat([x, torch.zeros_like(x)])), x[0])


def test_variances_are_measured_only_to_select():
    readings = find_method("sce").needs.readings
    assert [step.__name__ for step in readings({"select_topk": 1.0})] == ["energies"]
    assert len(readings({"select_topk": 0.5})) == 3
