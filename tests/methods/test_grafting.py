from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.application import Application
from merging.methods.apply import merge_tensor
from merging.methods.declare import find_method
from tests.methods.together import measured_together
from tests.methods.transcription import task_vectors


def transcription(x, density, weights, scale):
    """Entries above the int(s d)-th largest magnitude of each model, added up."""
    result = np.zeros(x.shape[1])
    for row, share, weight in zip(x, density, weights, strict=True):
        count = int(share * row.size)
        threshold = sorted(abs(row), reverse=True)[count - 1] if count else np.inf
        for i, entry in enumerate(row):
            if abs(entry) > threshold or share == 1:
                result[i] += scale * weight * entry
    return result


def grafting(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("grafting", x, torch.zeros(x.shape[1:]), **parameters)


@pytest.mark.parametrize("density", [[0.0, 0.001, 1.0], [0.1, 0.5, 0.99], [0.003, 0.3, 0.9]])
@pytest.mark.parametrize("weights, scale", [([1, 1, 1], 1.0), ([0.5, -1, 2], 0.7)])
def test_the_paper(density, weights, scale):
    x = task_vectors(seed=1, n=1001)
    expected = transcription(x.astype(np.float64), density, weights, scale)
    found = grafting(x, density=density, weight=weights, lambda_=scale)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_the_entry_at_the_threshold_is_left_out_with_all_that_equal_it():
    assert grafting([[1.0, 2.0, -2.0, 2.0, 3.0]], density=0.4).tolist() == [0, 0, 0, 0, 3]


def test_a_ten_thousandth_is_the_default():
    kept = grafting(torch.arange(1.0, 100_001)[None])
    assert int(kept.count_nonzero()) == 9


def test_density_one_adds_the_task_vectors_up():
    x = torch.from_numpy(task_vectors(seed=2))
    assert torch.equal(grafting(x, density=1.0), merge_tensor("task_arithmetic", x, torch.zeros(x.shape[1])))


def test_grafts_that_meet_add_up():
    assert grafting([[5.0, 1.0, 0.0], [4.0, 0.0, 1.0]], density=0.67).tolist() == [9, 0, 0]


def test_a_task_that_changed_nothing_has_no_graft():
    assert not grafting(torch.zeros(1, 100), density=0.5).any()


def test_the_threshold_is_that_of_all_tensors_together():
    x = torch.from_numpy(task_vectors(seed=5, n=400))
    small, large = x[:, :100] * 0.01, x[:, 100:]
    use = Application(find_method("grafting"), {"density": 0.3}, len(x))
    measured = measured_together(use, (small, large))
    found = torch.cat([use.merge(part, measured) for part in (small, large)])
    assert torch.equal(found, grafting(torch.cat([small, large], 1), density=0.3))
    assert not found[:100].any()
