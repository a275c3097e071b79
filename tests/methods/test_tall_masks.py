from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor


def transcription(x, task, weights, threshold, scale):
    result = np.zeros(x.shape[1])
    for k in range(x.shape[1]):
        total = sum(weight * row[k] for weight, row in zip(weights, x, strict=True))
        if abs(x[task - 1, k]) > threshold * abs(total - x[task - 1, k]):
            result[k] = scale * total
    return result


def tall_masks(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("tall_masks", x, torch.zeros(x.shape[1:]), **parameters)


def changes(models):
    return np.random.default_rng(models).standard_normal((models, 301)).astype(np.float32)


@pytest.mark.parametrize("task", [1, 2, 3])
@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("weights", [[1, 1, 1], [0.5, -1, 2]])
def test_the_paper(task, threshold, weights):
    x = changes(3)
    expected = transcription(x.astype(np.float64), task, weights, threshold, 0.8)
    found = tall_masks(x, task=task, mask_threshold=threshold, weight=weights, lambda_=0.8)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_default_is_the_first_task_at_threshold_two_fifths():
    x = changes(3)
    expected = transcription(x.astype(np.float64), 1, [1, 1, 1], 0.4, 1.0)
    np.testing.assert_allclose(tall_masks(x), expected, rtol=1e-5, atol=1e-6)


def test_one_task_alone_comes_back_whole():
    x = torch.from_numpy(changes(1))
    assert torch.equal(tall_masks(x), x[0])


def test_tasks_that_never_meet_come_back_whole():
    x = torch.tensor([[1.0, 0.0, -2.0, 0.0], [0.0, 3.0, 0.0, 0.0]])
    assert torch.equal(tall_masks(x, task=1), x[0])
    assert torch.equal(tall_masks(x, task=2), x[1])


def test_at_threshold_one_the_mask_is_the_nearest_to_the_task_of_all():
    x = torch.from_numpy(changes(4))
    total = x.sum(0)
    nearest = torch.where((total - x[2]).abs() < x[2].abs(), total, 0)
    assert torch.allclose(tall_masks(x, task=3, mask_threshold=1.0), nearest)


def test_a_task_beyond_the_models_is_refused():
    with pytest.raises(ParameterError, match="task 4") as caught:
        tall_masks(changes(3), task=4)
    assert caught.value.must_be.startswith("at most 3")
