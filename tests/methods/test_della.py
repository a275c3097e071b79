from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor
from tests.methods.transcription import merged, task_vectors

BOUNDS = {"density": [0.25, 0.5, 0.75], "epsilon": [0.125, 0.25, 0.125]}


def della(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("della", x, torch.zeros(x.shape[1:]), **parameters)


def coins(x, **parameters):
    """What falls for each entry of each model, seen by merging that model alone."""
    found = []
    for i, d in enumerate(x):
        weight = [float(i == j) for j in range(len(x))]
        alone = della(x, weight=weight, rescale=False, normalize=False, **parameters)
        found.append(alone.double().numpy() / d)
    return found


def chances(d, density, epsilon):
    """Chance of survival of each entry: rank by magnitude in its last-axis row, from the smallest."""
    rows = np.abs(d).reshape(-1, d.shape[-1])
    found = np.zeros_like(rows)
    for row, out in zip(rows, found, strict=True):
        for rank, place in enumerate(np.argsort(row, kind="stable")):
            share = rank / (len(row) - 1) if len(row) > 1 else 0.5
            out[place] = density - epsilon + 2 * epsilon * share
    return found.reshape(d.shape)


def rows_of(seed, models, *shape):
    return task_vectors(seed, models, int(np.prod(shape))).reshape(models, *shape)


@pytest.mark.parametrize("shape", [(97,), (6, 16), (3, 4, 8)])
@pytest.mark.parametrize("normalize, rescaling", [(a, b) for a in (True, False) for b in ("norm", "probability")])
@pytest.mark.parametrize("weights", [[1, 1, 1], [0.2, 0.7, 1.5], [1, -0.5, 0.3]])
def test_every_combination_is_that_of_the_transcription(shape, normalize, rescaling, weights):
    x = rows_of(1, 3, *shape)
    fallen = coins(x, **BOUNDS)
    norm = rescaling == "norm"
    bounds = list(zip(BOUNDS["density"], BOUNDS["epsilon"], strict=True))
    cuts = [
        lambda d, i=i: d * (fallen[i] / (1 if norm else chances(x[i], *bounds[i]))).reshape(d.shape) for i in range(3)
    ]
    flat = x.astype(np.float64).reshape(3, -1)
    options = {"consensus": True, "normalize": normalize, "rescale": norm}
    found = della(x, weight=weights, normalize=normalize, rescaling=rescaling, lambda_=1.1, **BOUNDS)
    expected = merged(flat, cuts, weights, scale=1.1, **options).reshape(shape)
    # Chances are multiples of 2^-16, the transcription's are not.
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("density, epsilon", [(0.5, 0.4), (0.3, 0.07), (0.7, 0.0)])
def test_entries_survive_as_often_as_their_rank_in_the_row_says(density, epsilon):
    rows = 20_000
    x = torch.tensor([4.0, -1.0, 0.5, 2.0, -3.0]).repeat(1, rows, 1)
    often = della(x, density=density, epsilon=epsilon, rescale=False).ne(0).double().mean(0)
    expected = chances(x[0, :1].numpy(), density, epsilon)[0]
    assert np.abs(often.numpy() - expected).max() < 5 * 0.5 / rows**0.5


def test_ranks_are_those_of_the_row_not_of_the_tensor():
    x = torch.tensor([[1.0, 2.0], [100.0, 200.0]]).repeat(1, 5000, 1)
    often = della(x, density=0.5, epsilon=0.49, rescale=False).ne(0).double().reshape(-1, 2, 2).mean(0)
    assert (often[:, 0] < 0.05).all()
    assert (often[:, 1] > 0.95).all()


def test_a_row_of_one_entry_survives_with_the_density():
    often = della(torch.ones(1, 20_000, 1), density=0.3, epsilon=0.2, rescale=False).double().mean()
    assert abs(often - 0.3) < 5 * (0.3 * 0.7 / 20_000) ** 0.5


def test_a_tensor_without_axes_survives_with_the_density():
    kept = [bool(della(torch.ones(1), density=0.3, epsilon=0.2, rescale=False, seed=seed)) for seed in range(100)]
    assert abs(sum(kept) / 100 - 0.3) < 5 * (0.3 * 0.7 / 100) ** 0.5


def test_the_mean_over_many_draws_of_the_papers_rescaling_is_the_task_vector():
    x, draws = torch.tensor([1.0, -2.0, 0.0, 4.0]), 20_000
    found = della(x.repeat(1, draws, 1), density=0.5, epsilon=0.25, rescaling="probability").double().mean(0)
    assert (found - x).abs().max() < 5 * 4 * (0.75 / 0.25 / draws) ** 0.5


def test_the_norm_of_the_whole_tensor_is_restored():
    x = torch.from_numpy(rows_of(3, 1, 40, 8))
    assert della(x, density=0.2, epsilon=0.1).abs().sum() == pytest.approx(float(x.abs().sum()), rel=1e-6)


def test_a_long_row_and_many_rows_are_handled_alike():
    rows = torch.from_numpy(rows_of(4, 1, 300, 1200))
    found = della(rows, density=0.5, epsilon=0.3, rescale=False)
    halves = [della(rows[:, :150], density=0.5, epsilon=0.3, rescale=False)]
    assert torch.equal(found[:150], halves[0])


def test_density_one_keeps_everything_and_density_zero_nothing_at_any_epsilon():
    x = torch.from_numpy(task_vectors(seed=5))
    for rescaling in ("norm", "probability"):
        assert torch.equal(della(x, density=[1, 0, 0], epsilon=0.9, rescaling=rescaling), x[0])
        assert not della(x, density=0, rescaling=rescaling).any()


@pytest.mark.parametrize("density, epsilon", [(0.9, 0.15), (0.1, 0.15), (0.75, 0.25), (0.25, 0.25), (0.5, 1.0)])
def test_chances_outside_are_refused_with_the_model_and_a_way_out(density, epsilon):
    with pytest.raises(ParameterError) as caught:
        della(torch.ones(2, 4), density=[0.5, density], epsilon=[0.1, epsilon])
    assert f"density {density:g}" in caught.value.what
    assert caught.value.what.endswith("of model 2 of 2")
    assert caught.value.must_be
    assert caught.value.fix == f"write epsilon below {min(density, 1 - density):g}"


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_nothing_merges_to_nothing(shape):
    assert della(torch.zeros(2, *shape), density=0.5).shape == shape
