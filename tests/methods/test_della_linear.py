from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor
from tests.methods.transcription import merged, task_vectors

DENSITY = [0.25, 0.5, 0.75]


def della_linear(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("della_linear", x, torch.zeros(x.shape[1:]), epsilon=0.125, **parameters)


def survivors(x):
    """What is left of each model, seen by merging it alone."""
    alone = [[float(i == j) for j in range(len(x))] for i in range(len(x))]
    return [della_linear(x, density=DENSITY, weight=each, rescale=False).double().numpy() for each in alone]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("weights", [[1, 1, 1], [0.2, 0.7, 1.5], [1, -0.5, 0.3]])
def test_every_combination_is_that_of_the_transcription(normalize, rescale, weights):
    x = task_vectors(seed=1)
    kept = survivors(x)
    options = {"consensus": False, "normalize": normalize, "rescale": rescale, "scale": -0.7}
    expected = merged(x.astype(np.float64), [lambda _, i=i: kept[i] for i in range(3)], weights, **options)
    found = della_linear(x, density=DENSITY, weight=weights, normalize=normalize, rescale=rescale, lambda_=-0.7)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)


def test_survivors_are_those_of_della():
    x = torch.from_numpy(task_vectors(seed=2, models=1, n=500))
    place = {"density": 0.5, "epsilon": 0.25, "seed": 3, "tensor": "w"}
    for rescaling in ("norm", "probability"):
        found = merge_tensor("della_linear", x, torch.zeros(500), rescaling=rescaling, **place)
        assert torch.equal(found, merge_tensor("della", x, torch.zeros(500), rescaling=rescaling, **place))


def test_weights_that_cancel_do_not_divide():
    found = merge_tensor("della_linear", torch.tensor([[2.0], [1.0]]), torch.zeros(1), weight=[1, -1], normalize=True)
    assert found.tolist() == [1]


def test_large_changes_survive_more_often_than_small_ones():
    x = torch.arange(1.0, 1001).repeat(1, 20, 1)
    kept = della_linear(x, density=0.5, rescale=False).ne(0).double().mean(0)
    assert kept[500:].mean() - kept[:500].mean() == pytest.approx(0.125, abs=0.03)
