from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor


def transcription(task_vectors, epsilon=1e-5):
    """Mean over the models that changed the entry, entry by entry."""
    merged = []
    for entries in task_vectors.T.astype(np.float64):
        changed = [v for v in entries if abs(v) > epsilon]
        merged.append(sum(changed) / len(changed) if changed else 0.0)
    return np.array(merged)


def sparse(models=4, n=200, seed=0):
    """Task vectors of which a third is zero, with many changes near the threshold."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((models, n)) * 10 ** generator.uniform(-7, 0, (models, n))
    return torch.tensor(np.where(generator.random((models, n)) < 0.3, 0, x), dtype=torch.float32)


def ram(task_vectors, **parameters):
    x = torch.as_tensor(task_vectors)
    return merge_tensor("ram", x, torch.zeros(x.shape[1:]), **parameters)


@pytest.mark.parametrize("models", [1, 2, 4, 9])
@pytest.mark.parametrize("epsilon", [0.0, 1e-5, 1e-2, 10.0])
def test_every_merge_is_that_of_the_transcription(models, epsilon):
    x = sparse(models)
    np.testing.assert_allclose(ram(x, epsilon=epsilon), transcription(x.numpy(), epsilon), rtol=1e-5, atol=1e-8)


def test_a_hundred_thousandth_is_the_default():
    x = sparse()
    assert torch.equal(ram(x), ram(x, epsilon=1e-5))


def test_what_one_model_changed_is_kept_whole():
    assert ram([[0.5, 0.0], [0.0, -2.0], [0.0, 0.0]]).tolist() == [0.5, -2.0]


def test_a_change_of_just_epsilon_is_none():
    assert ram([[0.25, 0.5], [1.0, 1.0]], epsilon=0.25).tolist() == [1.0, 0.75]


def test_opposite_changes_cancel():
    assert ram([[1.0], [-1.0]]).tolist() == [0.0]


def test_a_change_that_is_no_number_stays_visible():
    assert ram([[torch.nan, 1.0], [0.0, 1.0]])[0].isnan()


def test_a_threshold_below_zero_is_refused():
    with pytest.raises(ParameterError, match="epsilon cannot be"):
        ram(sparse(), epsilon=-1e-6)
