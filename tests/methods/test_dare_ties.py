from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor
from tests.methods.transcription import merged, task_vectors


def dare_ties(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("dare_ties", x, torch.zeros(x.shape[1:]), **parameters)


def coins(density, n):
    """What falls for each entry of each model, seen by merging ones of that model alone."""
    alone = [[float(i == j) for j in range(len(density))] for i in range(len(density))]
    return [
        dare_ties(torch.ones(len(density), n), weight=weight, density=density, rescale=False).double().numpy()
        for weight in alone
    ]


@pytest.mark.parametrize(
    "normalize, rescaling, scale", list(product([True, False], ["norm", "probability"], [1, -0.7]))
)
@pytest.mark.parametrize("weights", [[1, 1, 1], [0.2, 0.7, 1.5], [1, -0.5, 0.3], [-1, -1, -2]])
def test_every_combination_is_that_of_the_transcription(normalize, rescaling, scale, weights):
    x = task_vectors(seed=1)
    density = [0.25, 0.5, 0.9375]
    fallen = coins(density, x.shape[1])
    norm = rescaling == "norm"
    cuts = [lambda d, i=i: d * fallen[i] / (1 if norm else density[i]) for i in range(3)]
    expected = merged(
        x.astype(np.float64), cuts, weights, consensus=True, normalize=normalize, rescale=norm, scale=scale
    )
    options = {"normalize": normalize, "rescaling": rescaling, "lambda_": scale}
    found = dare_ties(x, density=density, weight=weights, **options)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)


def test_its_coins_are_those_of_dare_linear():
    x = torch.ones(1, 200)
    linear = merge_tensor("dare_linear", x, torch.zeros(200), density=0.3, seed=5, tensor="w")
    assert torch.equal(dare_ties(x, density=0.3, seed=5, tensor="w"), linear)


def test_with_density_one_it_is_ties_without_its_mean():
    x = torch.from_numpy(task_vectors(seed=2))
    assert torch.equal(dare_ties(x), merge_tensor("ties", x, torch.zeros(x.shape[1]), normalize=False))


def test_a_dropped_entry_has_no_vote():
    x = torch.tensor([[1.0] * 400, [-3.0] * 400])
    first, second = coins([0.5, 0.5], 400)
    alone = torch.from_numpy((first == 1) & (second == 0))
    assert alone.any()
    assert (dare_ties(x, density=0.5, rescale=False)[alone] == 1).all()


def test_an_even_vote_is_positive():
    assert dare_ties([[1.0, 2.0], [-1.0, -2.0]]).tolist() == [1, 2]
