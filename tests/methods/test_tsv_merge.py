from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor
from merging.methods.declare import find_method

SHAPES = [(6, 6), (5, 12), (12, 5), (9, 8)]


def task_vectors(models, rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((models, rows, columns)).astype(np.float32)


def tsv(x, **parameters):
    x = torch.as_tensor(np.asarray(x, dtype=np.float32))
    return merge_tensor("tsv_merge", x, torch.zeros(x.shape[1:]), **parameters).numpy()


def orthogonal(n, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]


def polar(x):
    p, _, q = np.linalg.svd(x, full_matrices=False)
    return p @ q


def expected(x, weights, share=1.0, scale=1.0):
    """The paper: truncate, concatenate, orthogonalise by Procrustes, multiply."""
    x = [w * each.astype(np.float64) for each, w in zip(x, weights, strict=True)]
    r = int(share * min(x[0].shape) / len(x))
    if r == 0:
        return scale * sum(x) / len(x)
    left, values, right = [], [], []
    for each in x:
        u, s, vt = np.linalg.svd(each, full_matrices=False)
        for i in range(r):
            left.append(u[:, i])
            values.append(s[i])
            right.append(vt[i])
    return scale * polar(np.stack(left, 1)) @ np.diag(values) @ polar(np.stack(right))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("models", [1, 2, 3, 5, 13])
def test_any_number_of_models_is_that_of_the_transcription(shape, models):
    x = task_vectors(models, *shape)
    np.testing.assert_allclose(tsv(x), expected(x, [1] * models), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share, scale", [(0.0, 1.0), (0.3, -0.5), (0.7, 2.0), (1.0, 1.3)])
def test_weights_rank_share_and_scale_are_those_of_the_transcription(shape, share, scale):
    x = task_vectors(2, *shape, seed=1)
    weights = [0.7, -1.5]
    found = tsv(x, weight=weights, rank_share=share, lambda_=scale)
    np.testing.assert_allclose(found, expected(x, weights, share, scale), rtol=1e-5, atol=1e-6)


def test_the_base_model_is_added():
    x, base = torch.from_numpy(task_vectors(2, 6, 8)), torch.ones(6, 8)
    np.testing.assert_allclose(merge_tensor("tsv_merge", base + x, base), 1 + tsv(x), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_merge_turns_with_the_task_vectors(shape):
    x = task_vectors(3, *shape)
    left, right = orthogonal(shape[0], 1), orthogonal(shape[1], 2)
    np.testing.assert_allclose(tsv(left @ x @ right), left @ tsv(x) @ right, atol=1e-5)


def test_equal_task_vectors_give_their_own_head():
    x = task_vectors(1, 9, 7)
    u, s, vt = np.linalg.svd(x[0], full_matrices=False)
    np.testing.assert_allclose(tsv(np.repeat(x, 3, 0)), (u[:, :2] * s[:2]) @ vt[:2], atol=1e-5)


def test_equal_task_vectors_of_low_rank_are_a_fixed_point():
    x = task_vectors(1, 9, 2) @ task_vectors(1, 2, 8, seed=1)
    np.testing.assert_allclose(tsv(np.repeat(x, 4, 0)), x[0], atol=1e-5)


def test_orthogonal_low_rank_task_vectors_are_added():
    q, p = orthogonal(8, 0), orthogonal(9, 1)
    x = np.stack([np.outer(q[:, i], p[i]) * (i + 1) for i in range(3)])
    np.testing.assert_allclose(tsv(x), x.sum(0), atol=1e-6)


def test_a_zero_task_vector_only_takes_its_share_of_the_rank():
    x = task_vectors(2, 8, 8)
    with_zero = np.concatenate([x, np.zeros((2, 8, 8))])
    np.testing.assert_allclose(tsv(with_zero), tsv(x, rank_share=0.5), atol=1e-6)


def test_task_vectors_of_zeros_give_the_base_model():
    assert not tsv(np.zeros((3, 6, 4))).any()


def test_a_kernel_is_one_matrix_of_its_outputs():
    x = task_vectors(2, 4, 18)
    found = tsv(x.reshape(2, 4, 2, 3, 3))
    np.testing.assert_allclose(found.reshape(4, 18), tsv(x), atol=1e-6)


def test_what_is_no_matrix_is_averaged():
    x = task_vectors(3, 1, 10)[:, 0]
    weighted = (x[0] + 2 * x[1] - x[2]) / 3
    np.testing.assert_allclose(tsv(x, weight=[1, 2, -1], lambda_=0.5), 0.5 * weighted, rtol=1e-5, atol=1e-7)


def test_it_is_known_by_the_name_of_the_paper_as_well():
    assert find_method("singular_vectors").name == "tsv_merge"
