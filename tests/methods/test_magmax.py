from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor


def transcription(task_vectors, scale):
    """The change of largest magnitude, the last of equal ones, entry by entry."""
    merged = []
    for entries in task_vectors.T:
        winner = 0.0
        for v in entries:
            if abs(v) >= abs(winner):
                winner = v
        merged.append(scale * winner)
    return np.array(merged)


def task_vectors(models, n=300, seed=0):
    """Changes of bfloat16 models, of which many are equal or opposite."""
    generator = np.random.default_rng(seed)
    return torch.tensor(generator.integers(-6, 7, (models, n)) / 8, dtype=torch.float32)


def magmax(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("magmax", x, torch.zeros(x.shape[1:]), **parameters)


@pytest.mark.parametrize("models", [1, 2, 3, 8])
@pytest.mark.parametrize("scale", [0.5, 1.0, -0.3])
def test_every_entry_is_that_of_the_transcription(models, scale):
    x = task_vectors(models)
    np.testing.assert_allclose(magmax(x, lambda_=scale), transcription(x.numpy(), scale), rtol=1e-6)


def test_a_half_is_the_default():
    x = task_vectors(3)
    assert torch.equal(magmax(x), magmax(x, lambda_=0.5))


def test_of_equal_magnitudes_the_later_models_is_taken():
    assert magmax([[1.0, -2.0], [-1.0, 2.0]], lambda_=1).tolist() == [-1.0, 2.0]
    assert magmax([[-1.0, 2.0], [1.0, -2.0]], lambda_=1).tolist() == [1.0, -2.0]


def test_the_largest_change_is_taken_bit_for_bit():
    x = torch.randn(5, 1000, generator=torch.Generator().manual_seed(0))
    found = magmax(x, lambda_=1)
    assert (found == x).any(0).all()
    assert torch.equal(found.abs(), x.abs().amax(0))


def test_a_change_that_is_no_number_stays_visible():
    for x in ([[torch.nan], [1.0]], [[1.0], [torch.nan]]):
        assert magmax(x).isnan().all()


def test_equal_models_come_back_at_lambda_one():
    x = task_vectors(1)[0]
    assert torch.equal(magmax(torch.stack([x, x, x]), lambda_=1), x)
