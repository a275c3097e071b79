from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor


def task_vectors(models, rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((models, rows, columns)).astype(np.float32)


def star(x, **parameters):
    x = torch.as_tensor(np.asarray(x, dtype=np.float32))
    return merge_tensor("star", x, torch.zeros(x.shape[1:]), **parameters).numpy()


def cut(x, eta):
    """The first singular values that reach a share of the nuclear norm, scaled to the whole of it."""
    u, s, vt = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    kept, rank = s[0], 1
    while kept < eta * sum(s) and rank < len(s):
        kept += s[rank]
        rank += 1
    return sum(s[i] * sum(s) / kept * np.outer(u[:, i], vt[i]) for i in range(rank))


@pytest.mark.parametrize("shape", [(6, 6), (5, 12), (12, 5)])
@pytest.mark.parametrize("eta", [0.0, 0.1, 0.4, 0.77, 0.999])
def test_every_share_and_shape_is_that_of_the_transcription(shape, eta):
    x, weights = task_vectors(3, *shape), [1.0, 0.5, -2.0]
    expected = sum(1.5 * w * cut(each, eta) for w, each in zip(weights, x, strict=True)) / 3
    np.testing.assert_allclose(star(x, eta=eta, weight=weights, lambda_=1.5), expected, rtol=1e-5, atol=1e-5)


def test_the_default_share_is_that_of_the_paper():
    x = task_vectors(2, 7, 8)
    np.testing.assert_allclose(star(x), (cut(x[0], 0.4) + cut(x[1], 0.4)) / 2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("eta, rank", [(0.5, 1), (0.51, 2), (0.8, 2), (0.81, 3)])
def test_the_smallest_rank_that_reaches_the_share_is_kept(eta, rank):
    merged = star(np.diag([5.0, 3.0, 2.0])[None], eta=eta)
    assert np.count_nonzero(np.diag(merged) > 1e-6) == rank


def test_every_nuclear_norm_is_kept():
    x = task_vectors(1, 9, 6)
    assert np.linalg.norm(star(x, eta=0.3), "nuc") == pytest.approx(np.linalg.norm(x[0], "nuc"), rel=1e-5)


@pytest.mark.parametrize("shape", [(6, 6), (5, 12)])
def test_everything_kept_is_the_mean(shape):
    x = task_vectors(3, *shape)
    np.testing.assert_allclose(star(x, eta=1.0), x.mean(0), rtol=1e-4, atol=1e-6)


def test_low_rank_task_vectors_survive_if_everything_is_kept():
    x = task_vectors(2, 9, 2) @ task_vectors(2, 2, 7, seed=1)
    np.testing.assert_allclose(star(x, eta=1.0), x.mean(0), rtol=1e-4, atol=1e-5)


def test_the_merge_turns_with_the_task_vectors():
    x = task_vectors(3, 6, 8)
    left, right = (np.linalg.qr(task_vectors(1, n, n, seed=n)[0].astype(np.float64))[0] for n in (6, 8))
    np.testing.assert_allclose(star(left @ x @ right), left @ star(x) @ right, atol=1e-5)


def test_a_zero_task_vector_only_counts_in_the_mean():
    x = task_vectors(1, 6, 4)
    np.testing.assert_allclose(star(np.concatenate([x, 0 * x])), star(x) / 2, rtol=1e-6)


def test_task_vectors_of_zeros_give_the_base_model():
    assert not star(np.zeros((3, 6, 4))).any()


def test_what_is_no_number_stays_visible():
    x = task_vectors(2, 6, 4)
    x[1, 2, 3] = np.nan
    assert np.isnan(star(x)).all()


def test_what_is_no_matrix_is_averaged():
    x = task_vectors(2, 1, 10)[:, 0]
    np.testing.assert_allclose(star(x), x.mean(0), rtol=1e-5, atol=1e-6)
