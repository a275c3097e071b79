from __future__ import annotations

from math import hypot

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor

SHAPES = [(6, 6), (5, 5), (4, 11), (11, 4), (3, 8), (7, 10)]


def task_vectors(models, rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((models, rows, columns)).astype(np.float32)


def fr(x, method="fr_merging", **parameters):
    x = torch.as_tensor(np.asarray(x, dtype=np.float32))
    return merge_tensor(method, x, torch.zeros(x.shape[1:]), **parameters).numpy()


def high_pass(x, share):
    """Bins farther from the middle index than a share of the shorter side are dropped, one by one."""
    rows, columns = x.shape
    bins = np.fft.fft2(x.astype(np.float64))
    for y in range(rows):
        for z in range(columns):
            if hypot(y - rows // 2, z - columns // 2) > share * min(rows, columns):
                bins[y, z] = 0
    return np.fft.ifft2(bins).real


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.0, 0.21, 0.5, 0.69, 0.9, 1.0])
def test_every_radius_and_shape_is_that_of_the_transcription(shape, share):
    x, weights = task_vectors(3, *shape), [1.0, 0.3, -2.0]
    expected = sum(0.7 * w * high_pass(each, share) for w, each in zip(weights, x, strict=True))
    found = fr(x, radius_share=share, weight=weights, lambda_=0.7)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_equalised_task_vectors_have_one_mean_magnitude(shape):
    x, weights = task_vectors(3, *shape) * [[[1]], [[0.1]], [[3]]], [1.0, 0.3, -2.0]
    kept = [high_pass(each, 0.6) for each in x]
    sizes = [np.abs(each).mean() for each in kept]
    expected = sum(w * max(sizes) / size * each for w, size, each in zip(weights, sizes, kept, strict=True))
    found = fr(x, radius_share=0.6, weight=weights, equalize=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [4, 5, 16])
def test_square_matrices_lose_nothing_at_the_default_radius(side):
    x = task_vectors(3, side, side)
    assert np.array_equal(fr(x), fr(x, radius_share=1.0))
    np.testing.assert_allclose(fr(x), fr(x, "task_arithmetic"), rtol=1e-4, atol=1e-6)


def test_the_mean_of_a_long_matrix_is_its_lowest_frequency():
    x = task_vectors(2, 4, 20)
    np.testing.assert_allclose(fr(x + 5), fr(x), atol=1e-5)


def test_the_filter_moves_with_the_rows_and_columns():
    x = task_vectors(2, 6, 20)
    np.testing.assert_allclose(fr(np.roll(x, (2, 7), (1, 2))), np.roll(fr(x), (2, 7), (0, 1)), atol=1e-5)


def test_equal_task_vectors_are_a_fixed_point_where_nothing_is_filtered():
    x = np.repeat(task_vectors(1, 6, 6), 4, 0)
    for equalize in (False, True):
        np.testing.assert_allclose(fr(x, weight=0.25, equalize=equalize), x[0], rtol=1e-6)


@pytest.mark.parametrize("equalize", [False, True])
def test_zero_task_vectors_add_nothing(equalize):
    x = task_vectors(2, 4, 11)
    assert not fr(np.zeros((3, 4, 11)), equalize=equalize).any()
    found = fr(np.concatenate([x, np.zeros((1, 4, 11))]), equalize=equalize)
    np.testing.assert_allclose(found, fr(x, equalize=equalize), rtol=1e-5, atol=1e-6)


def test_what_is_no_matrix_is_added():
    x = task_vectors(2, 1, 10)[:, 0]
    np.testing.assert_allclose(fr(x, weight=[1, 2], lambda_=0.5), x[0] / 2 + x[1], rtol=1e-5, atol=1e-6)
