from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor
from tests.methods.transcription import task_vectors


def transcription(x, weights, thresholds, agreement, scale):
    models, d = x.shape
    result = np.zeros(d)
    for k in range(d):
        total = sum(weights[i] * x[i, k] for i in range(models))
        masks = [abs(x[i, k]) > thresholds[i] * abs(total - x[i, k]) for i in range(models)]
        result[k] = scale * total if sum(masks) >= agreement else 0
    return result


def consensus(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("consensus", x, torch.zeros(x.shape[1:]), **parameters)


def changes(models):
    return np.random.default_rng(models).standard_normal((models, 301)).astype(np.float32)


@pytest.mark.parametrize("models", [2, 3, 8])
@pytest.mark.parametrize("agreement", [1, 2])
@pytest.mark.parametrize("threshold, weight", [(0.2, 1.0), (0.6, 1.0), (1.0, 0.5), (0.0, -1.0)])
def test_the_paper(models, agreement, threshold, weight):
    x = changes(models)
    weights, thresholds = [weight] * models, [threshold] * models
    thresholds[0] = 0.3
    expected = transcription(x.astype(np.float64), weights, thresholds, agreement, 0.7)
    options = {"mask_threshold": thresholds, "agreement": agreement, "lambda_": 0.7}
    np.testing.assert_allclose(consensus(x, weight=weight, **options), expected, rtol=1e-5, atol=1e-6)


def test_the_defaults_are_two_tasks_and_the_papers_scale():
    x = changes(8)
    expected = transcription(x.astype(np.float64), [1] * 8, [0.4] * 8, 2, 0.3)
    np.testing.assert_allclose(consensus(x), expected, rtol=1e-5, atol=1e-6)


def test_entries_that_one_task_needs_go_and_those_that_two_need_stay():
    assert consensus([[5.0, 5.0], [0.1, 4.0]], lambda_=1).tolist() == [0, 9]
    assert consensus([[5.0, 5.0], [0.1, 4.0]], lambda_=1, agreement=1).tolist() == [pytest.approx(5.1), 9]


def test_more_agreement_than_there_are_models_means_all_of_them():
    x = changes(3)
    assert torch.equal(consensus(x, agreement=9), consensus(x, agreement=3))
    assert consensus(x, agreement=9).any()


def test_a_task_that_changed_nothing_needs_nothing():
    x = torch.from_numpy(changes(1))
    assert not consensus(torch.cat([x, torch.zeros_like(x)])).any()


def test_an_even_comparison_is_no_mask():
    assert consensus([[1.0, 1.0], [1.0, 0.5]], mask_threshold=1, agreement=1, lambda_=1).tolist() == [0, 1.5]


def test_the_sum_is_that_of_task_arithmetic_where_it_is_kept():
    x = torch.from_numpy(task_vectors(seed=3))
    found = consensus(x, lambda_=1)
    total = merge_tensor("task_arithmetic", x, torch.zeros(x.shape[1]))
    assert torch.equal(found, torch.where(found == 0, 0, total))
