from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor
from merging.methods.declare import find_method
from tests.methods.transcription import largest, merged, task_vectors


def ties(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("ties", x, torch.zeros(x.shape[1:]), **parameters)


def expected(x, density, weights, **options):
    trim = [partial(largest, density=share) for share in density]
    return merged(x.astype(np.float64), trim, weights, consensus=True, **options)


@pytest.mark.parametrize("normalize, rescale, scale", list(product([True, False], [True, False], [1.0, -0.7])))
@pytest.mark.parametrize("weights", [[1, 1, 1], [0.2, 0.7, 1.5], [1, -0.5, 0.3], [-1, -1, -2], [0, 1, 1]])
def test_every_combination_is_that_of_the_transcription(normalize, rescale, scale, weights):
    x = task_vectors(seed=1)
    density = [0.2, 0.53, 0.9]
    options = {"normalize": normalize, "rescale": rescale}
    found = ties(x, density=density, weight=weights, lambda_=scale, **options)
    np.testing.assert_allclose(found, expected(x, density, weights, scale=scale, **options), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("density", [0.0, 1e-9, 0.01, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("n", [1, 2, 10, 1000])
def test_every_density_is_that_of_the_transcription(density, n):
    x = task_vectors(seed=2, n=n)
    found = ties(x, density=density)
    np.testing.assert_allclose(found, expected(x, [density] * 3, [1] * 3, normalize=True), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("density, n, kept", [(0.7, 10, 7), (0.29, 100, 28), (0.55, 20, 11), (0.01, 10, 1)])
def test_the_number_kept_is_that_of_float64(density, n, kept):
    assert int(ties(torch.arange(1.0, n + 1)[None], density=density).count_nonzero()) == kept


def test_all_entries_equal_to_the_threshold_are_kept():
    assert ties([[1.0, -2.0, 2.0, 2.0, 3.0]], density=0.4).tolist() == [0, -2, 2, 2, 3]


def test_an_even_vote_is_positive():
    assert ties([[1.0, 2.0], [-1.0, -2.0]]).tolist() == [1, 2]


def test_a_negative_weight_votes_for_the_opposite_sign():
    assert ties([[1.0], [3.0]], weight=[1, -1], normalize=False).tolist() == [-3]


def test_cancelling_weights_of_agreeing_models_divide_by_one():
    assert ties([[2.0], [-3.0]], weight=[1, -1]).tolist() == [5]


def test_equal_task_vectors_survive_any_election():
    x = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ties(torch.stack([x] * 5), weight=[1, 2, 3, 4, 5]), x)


def test_a_zero_task_vector_has_no_vote():
    x = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ties(torch.stack([x, torch.zeros(50)]), density=0.5), ties(x[None], density=0.5))


def test_rescaling_restores_the_mass_of_a_single_task_vector():
    x = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0))
    assert ties(x, density=0.1, rescale=True).abs().sum() == pytest.approx(float(x.abs().sum()), rel=1e-6)


def test_nothing_is_measured_that_the_values_do_not_call_for():
    def readings(density, rescale):
        steps = find_method("ties").needs.readings({"density": density, "rescale": rescale})
        return [step.__name__ for step in steps]

    assert readings(1.0, False) == readings((1.0, 1), False) == []
    assert readings((1.0, 0.5), False) == ["thresholds_sampled", "thresholds_counted"]
    assert readings(1.0, True) == ["trim_masses"]
