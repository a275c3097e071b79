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
    models, d = x.shape
    conflicts = [
        sum(abs(x[i, k]) * abs(x[j, k]) for i in range(models) for j in range(models) if i != j) for k in range(d)
    ]
    limit = np.quantile(conflicts, density)
    result = np.zeros(d)
    for k in range(d):
        if conflicts[k] <= limit:
            result[k] = scale * sum(weight * row[k] for weight, row in zip(weights, x, strict=True))
    return result


def trust_region(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("trust_region", x, torch.zeros(x.shape[1:]), **parameters)


@pytest.mark.parametrize("density", [0.0, 0.3, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("n", [101, 300])
@pytest.mark.parametrize("weights, scale", [([1, 1, 1], 0.3), ([0.5, -1, 2], 1.0)])
def test_the_paper(density, n, weights, scale):
    x = task_vectors(seed=n, n=n)
    expected = transcription(x.astype(np.float64), density, weights, scale)
    found = trust_region(x, density=density, weight=weights, lambda_=scale)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_the_defaults_leave_out_one_entry_in_a_hundred():
    x = task_vectors(seed=1, n=1000)
    found = trust_region(x)
    np.testing.assert_allclose(found, transcription(x.astype(np.float64), 0.99, [1] * 3, 0.3), rtol=1e-5, atol=1e-8)
    assert int((found == 0).sum()) == 10


def test_a_single_model_has_no_conflicts():
    x = torch.from_numpy(task_vectors(seed=2, models=1))
    assert torch.equal(trust_region(x, density=0.5, lambda_=1), x[0])


def test_large_changes_of_one_task_alone_stay():
    x = [[9.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.5, 2.0]]
    assert trust_region(x, density=0.7, lambda_=1).tolist() == [9, 0, 1.5, 2]


def test_conflicts_equal_to_the_quantile_stay():
    assert trust_region([[1.0, 1.0, 1.0, 2.0]] * 2, density=0.5, lambda_=1).tolist() == [2, 2, 2, 0]


def test_the_quantile_is_that_of_all_tensors_together():
    x = torch.from_numpy(task_vectors(seed=5, n=400))
    small, large = x[:, :100] * 0.01, x[:, 100:]
    use = Application(find_method("trust_region"), {"density": 0.8}, len(x))
    measured = measured_together(use, (small, large))
    found = torch.cat([use.merge(part, measured) for part in (small, large)])
    assert torch.equal(found, trust_region(torch.cat([small, large], 1), density=0.8))
    assert found[:100].all()
