from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor
from tests.methods.transcription import merged, task_vectors


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("weights", [[1, 1, 1], [0.2, -0.7, 1.5], [1, -1, 0]])
def test_task_vectors_are_summed(normalize, scale, weights):
    x = task_vectors(seed=1)
    base = np.random.default_rng(0).standard_normal(97).astype(np.float32)
    options = {"normalize": normalize, "lambda_": scale, "density": 0.1, "int8_mask": True, "rescale": True}
    found = merge_tensor("task_arithmetic", torch.tensor(x + base), torch.tensor(base), weight=weights, **options)
    tau = (x + base).astype(np.float64) - base
    reference = merged(tau, [np.copy] * 3, weights, consensus=False, normalize=normalize, scale=scale)
    np.testing.assert_allclose(found, base + reference, rtol=1e-6, atol=1e-6)


def test_forgetting_undoes_learning():
    base, tuned = torch.randn(2, 30, generator=torch.Generator().manual_seed(0))
    forgotten = merge_tensor("task_arithmetic", tuned[None], base, lambda_=-1.0)
    assert torch.allclose(merge_tensor("task_arithmetic", tuned[None] - base + forgotten, forgotten), base, atol=1e-6)
