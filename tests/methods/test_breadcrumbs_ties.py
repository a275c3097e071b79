from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor
from tests.methods.transcription import band, merged, task_vectors


def breadcrumbs_ties(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("breadcrumbs_ties", x, torch.zeros(x.shape[1:]), **parameters)


def expected(x, density, gamma, weights, **options):
    trim = [partial(band, density=share, gamma=outliers) for share, outliers in zip(density, gamma, strict=True)]
    return merged(x.astype(np.float64), trim, weights, consensus=True, **options)


@pytest.mark.parametrize("normalize, rescale, scale", list(product([True, False], [True, False], [1.0, -0.7])))
@pytest.mark.parametrize("weights", [[1, 1, 1], [0.2, 0.7, 1.5], [1, -0.5, 0.3], [1, -1, 0]])
def test_every_combination_is_that_of_the_transcription(normalize, rescale, scale, weights):
    x = task_vectors(seed=1)
    shares = {"density": [0.2, 0.53, 0.9], "gamma": [0.01, 0.05, 0.3]}
    options = {"normalize": normalize, "rescale": rescale}
    found = breadcrumbs_ties(x, weight=weights, lambda_=scale, **shares, **options)
    reference = expected(x, *shares.values(), weights, scale=scale, **options)
    np.testing.assert_allclose(found, reference, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("density", [0.0, 0.009, 0.1, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.004, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 3, 100])
def test_every_density_and_gamma_are_those_of_the_transcription(density, gamma, n):
    x = task_vectors(seed=2, n=n)
    found = breadcrumbs_ties(x, density=density, gamma=gamma)
    reference = expected(x, [density] * 3, [gamma] * 3, [1] * 3, normalize=False)
    np.testing.assert_allclose(found, reference, rtol=1e-5, atol=1e-6)


def test_outliers_have_no_vote():
    x = [[9.0, 1.0, 2.0, 3.0], [-1.0, 1.5, 2.5, 4.0]]
    assert breadcrumbs_ties(x, density=0.75, gamma=0.25).tolist() == [-1, 2.5, 4.5, 3]


def test_cancelling_weights_of_agreeing_models_divide_by_one():
    assert breadcrumbs_ties([[2.0], [-3.0]], weight=[1, -1], normalize=True).tolist() == [5]
