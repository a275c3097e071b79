from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor
from merging.methods.declare import find_method
from tests.methods.transcription import merged, task_vectors


def dare(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("dare_linear", x, torch.zeros(x.shape[1:]), **parameters)


def coins(density, n, **place):
    """What falls for each entry of each model, seen by merging ones of that model alone."""
    alone = [[float(i == j) for j in range(len(density))] for i in range(len(density))]
    ones = torch.ones(len(density), n)
    return [dare(ones, weight=weight, density=density, rescale=False, **place).double().numpy() for weight in alone]


@pytest.mark.parametrize(
    "normalize, rescaling, scale", list(product([True, False], ["norm", "probability"], [1, -0.7]))
)
@pytest.mark.parametrize("weights", [[1, 1, 1], [0.2, 0.7, 1.5], [1, -0.5, 0.3], [0, 1, 1]])
def test_every_combination_is_that_of_the_transcription(normalize, rescaling, scale, weights):
    x = task_vectors(seed=1)
    density = [0.25, 0.5, 0.9375]
    fallen = coins(density, x.shape[1], seed=4)
    norm = rescaling == "norm"
    cuts = [lambda d, i=i: d * fallen[i] / (1 if norm else density[i]) for i in range(3)]
    expected = merged(
        x.astype(np.float64), cuts, weights, consensus=False, normalize=normalize, rescale=norm, scale=scale
    )
    options = {"normalize": normalize, "rescaling": rescaling, "lambda_": scale}
    found = dare(x, density=density, weight=weights, seed=4, **options)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)


def test_without_rescaling_survivors_stay_what_they_are():
    x = torch.from_numpy(task_vectors(seed=2, models=1))
    for rescaling in ("norm", "probability"):
        found = dare(x, density=0.5, rescale=False, rescaling=rescaling)
        assert torch.equal(found, torch.where(found == 0, 0, x[0]))
        assert 0 < int(found.count_nonzero()) < x.numel()


def test_the_norm_of_each_task_vector_is_restored():
    x = torch.from_numpy(task_vectors(seed=3, models=1, n=1000))
    assert dare(x, density=0.1).abs().sum() == pytest.approx(float(x.abs().sum()), rel=1e-6)


def test_the_mean_over_many_draws_of_the_papers_rescaling_is_the_task_vector():
    x, draws = torch.tensor([1.0, -2.0, 0.0, 4.0]), 20_000
    found = dare(x.repeat(1, draws, 1), density=0.25, rescaling="probability").double().mean(0)
    assert (found - x).abs().max() < 5 * 4 * (0.75 / 0.25 / draws) ** 0.5


@pytest.mark.parametrize("density", [0.1, 0.5, 0.99])
def test_the_share_that_survives_is_the_density(density):
    n = 100_000
    assert abs(coins([density], n)[0].mean() - density) < 5 * (density * (1 - density) / n) ** 0.5


def test_models_tensors_and_seeds_have_coins_of_their_own():
    here = coins([0.5, 0.5], 1000, seed=1, tensor="a")
    others = [here[1], *coins([0.5], 1000, seed=2, tensor="a"), *coins([0.5], 1000, seed=1, tensor="b")]
    assert all(0.4 < (here[0] != other).mean() < 0.6 for other in others)
    assert np.array_equal(here[0], coins([0.5], 1000, seed=1, tensor="a")[0])


def test_what_survives_a_low_density_survives_a_higher_one():
    low, high = coins([0.2], 1000)[0], coins([0.6], 1000)[0]
    assert (low <= high).all()


def test_density_one_keeps_everything_and_density_zero_nothing():
    x = torch.from_numpy(task_vectors(seed=4))
    for rescaling in ("norm", "probability"):
        assert torch.equal(dare(x, density=[1, 0, 0], rescaling=rescaling), x[0])
        assert not dare(x, density=0, rescaling=rescaling).any()


def test_a_task_vector_of_which_nothing_survives_is_not_rescaled():
    assert dare([[0.0, 0.0, 3.0]], density=2**-16).tolist() == [0, 0, 0]


def test_weights_that_cancel_do_not_divide():
    assert dare([[2.0], [1.0]], weight=[1, -1], normalize=True).tolist() == [1]


def test_masses_are_measured_only_to_rescale():
    needs = find_method("dare_linear").needs
    usual = {"rescale": True, "density": (1.0, 0.5), "rescaling": "norm"}
    assert [step.__name__ for step in needs.rounds(usual)] == ["surviving_masses"]
    for idle in ({"rescale": False}, {"density": 1.0}, {"rescaling": "probability"}):
        assert needs.rounds({**usual, **idle}) == ()
