from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.errors import ParameterError
from merging.methods.application import Application
from merging.methods.apply import merge_tensor
from merging.methods.declare import find_method
from tests.methods.transcription import task_vectors


def transcription(x, task):
    """Elect, mask, rescale, over all parameters as one vector."""
    d = x.shape[1]
    unified = np.zeros(d)
    for k in range(d):
        sign = 1 if np.mean(x[:, k]) > 0 else -1
        unified[k] = sign * max([abs(entry) for entry in x[:, k] if entry * sign > 0], default=0)
    if task == 0:
        return unified
    mask = [x[task - 1, k] * unified[k] > 0 for k in range(d)]
    kept = sum(abs(unified[k]) for k in range(d) if mask[k])
    scale = sum(abs(entry) for entry in x[task - 1]) / kept if kept else 1
    return np.array([scale * unified[k] if mask[k] else 0 for k in range(d)])


def emr(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("emr", x, torch.zeros(x.shape[1:]), **parameters)


@pytest.mark.parametrize("models, task", [(1, 0), (1, 1), (2, 0), (2, 2), (3, 1), (3, 2), (3, 3), (8, 0), (8, 5)])
def test_the_paper(models, task):
    x = task_vectors(seed=models, models=models, n=301)
    expected = transcription(x.astype(np.float64), task)
    np.testing.assert_allclose(emr(x, task=task), expected, rtol=1e-5, atol=1e-9)


def test_the_default_is_the_unified_vector():
    x = task_vectors(seed=9)
    np.testing.assert_allclose(emr(x), transcription(x.astype(np.float64), 0), rtol=1e-6)


def test_cancelling_changes_elect_the_negative_one():
    assert emr([[2.0, 1.0], [-2.0, -1.0]]).tolist() == [-2, -1]


def test_a_task_keeps_its_mass():
    x = torch.from_numpy(task_vectors(seed=2))
    for task in (1, 2, 3):
        assert emr(x, task=task).abs().sum() == pytest.approx(float(x[task - 1].abs().sum()), rel=1e-5)


def test_equal_models_come_back():
    x = torch.from_numpy(task_vectors(seed=3, models=1)).expand(4, -1)
    for task in (0, 1, 4):
        assert torch.allclose(emr(x, task=task), x[0])


def test_a_task_whose_mask_is_empty_is_the_base_model():
    assert emr([[1.0, -1.0], [-3.0, 3.0]], task=1).tolist() == [0, 0]


def test_a_task_beyond_the_models_is_refused():
    with pytest.raises(ParameterError, match="task 4") as caught:
        emr(task_vectors(seed=4), task=4)
    assert caught.value.must_be.startswith("at most 3")


def test_the_scale_is_that_of_all_tensors_together():
    x = torch.from_numpy(task_vectors(seed=5, n=400))
    small, large = x[:, :100] * 0.01, x[:, 100:]
    use = Application(find_method("emr"), {"task": 2}, len(x))
    (step,) = use.rounds
    measured = {step.__name__: use.measure(step, small, {}) + use.measure(step, large, {})}
    found = torch.cat([use.merge(part, measured) for part in (small, large)])
    assert torch.allclose(found, emr(torch.cat([small, large], 1), task=2), rtol=1e-6)


def test_nothing_is_measured_for_the_unified_vector():
    rounds = find_method("emr").needs.rounds
    assert rounds({"task": 0}) == ()
    assert [step.__name__ for step in rounds({"task": 1})] == ["masked_masses"]


def test_the_unified_vector_is_ties_without_trimming_and_with_the_largest():
    x = torch.from_numpy(task_vectors(seed=6))
    ties = merge_tensor("ties_global", x, torch.zeros(x.shape[1]), density=1.0, aggregate="max")
    assert torch.equal(emr(x), ties)
    mean, total = (merge_tensor("ties_global", x, torch.zeros(x.shape[1]), aggregate=each) for each in ("mean", "sum"))
    assert torch.equal(total, merge_tensor("ties_global", x, torch.zeros(x.shape[1]), normalize=False))
    assert not torch.equal(mean, total)
