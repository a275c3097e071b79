from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor
from tests.methods.transcription import task_vectors


def transcription(x, density, gamma, weights, scale, remove_first):
    """The authors' program: two selections by magnitude along the last axis, in either order."""
    result = np.zeros(x.shape[1:])
    for d, keep, drop, weight in zip(x, density, gamma, weights, strict=True):
        rows = d.reshape(-1, d.shape[-1]).copy()
        count, outliers = int(rows.shape[1] * keep), int(rows.shape[1] * drop)
        for row in rows:
            for first in (remove_first, not remove_first):
                order = np.argsort(abs(row))
                gone = order[row.size - outliers :] if first else order[: row.size - count]
                row[gone] = 0
        result += scale * weight * rows.reshape(d.shape)
    return result


def breadcrumbs_rows(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("breadcrumbs_rows", x, torch.zeros(x.shape[1:]), **parameters)


@pytest.mark.parametrize("remove_first", [True, False])
@pytest.mark.parametrize("shape", [(40,), (5, 40), (2, 3, 40)])
@pytest.mark.parametrize("density, gamma", [([0.15, 0.5, 1.0], [0.0, 0.1, 0.03]), ([0.01, 0.1, 0.9], [0.3, 0.2, 1.0])])
def test_the_authors_program(remove_first, shape, density, gamma):
    x = task_vectors(seed=1, n=int(np.prod(shape))).reshape(3, *shape)
    weights = [0.5, -1, 2]
    expected = transcription(x.astype(np.float64), density, gamma, weights, 0.4, remove_first)
    options = {"density": density, "gamma": gamma, "weight": weights, "lambda_": 0.4, "remove_first": remove_first}
    np.testing.assert_allclose(breadcrumbs_rows(x, **options), expected, rtol=1e-5, atol=1e-8)


def test_the_defaults_are_where_the_authors_begin_their_search():
    x = task_vectors(seed=2, n=2000).reshape(3, 2, 1000)
    expected = transcription(x.astype(np.float64), [0.15] * 3, [0.006] * 3, [1] * 3, 0.2, True)
    np.testing.assert_allclose(breadcrumbs_rows(x), expected, rtol=1e-5, atol=1e-8)


def test_the_order_decides_how_many_are_kept():
    x = torch.arange(1.0, 11)[None]
    kept = [breadcrumbs_rows(x, density=0.4, gamma=0.2, lambda_=1, remove_first=first) for first in (True, False)]
    assert kept[0].tolist() == [0, 0, 0, 0, 5, 6, 7, 8, 0, 0]
    assert kept[1].tolist() == [0, 0, 0, 0, 0, 0, 7, 8, 0, 0]


def test_entries_equal_to_an_end_of_the_band_are_kept():
    x = [[4.0, -4.0, 2.0, 2.0, 1.0]]
    assert breadcrumbs_rows(x, density=0.4, gamma=0.2, lambda_=1).tolist() == [4, -4, 2, 2, 0]


def test_short_rows_keep_nothing():
    assert not breadcrumbs_rows(torch.ones(1, 4, 3)).any()


@pytest.mark.parametrize("shape", [(), (1,), (4, 1)])
def test_rows_of_one_entry_are_kept_whole(shape):
    assert (breadcrumbs_rows(torch.ones(1, *shape), lambda_=1) == 1).all()


def test_density_one_without_outliers_is_task_arithmetic():
    x = torch.from_numpy(task_vectors(seed=3))
    assert torch.equal(
        breadcrumbs_rows(x, density=1, gamma=0, lambda_=1), merge_tensor("task_arithmetic", x, torch.zeros(x.shape[1]))
    )
