from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.algebra import spectra
from merging.algebra.spectra import left_singular, polar, svd, top_singular

SHAPES = [(1, 1), (1, 6), (6, 1), (8, 8), (7, 40), (40, 7), (60, 64)]


def matrix(rows, columns, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, columns)))


def with_spectrum(rows, columns, values, seed=0):
    """A matrix with these singular values and random singular vectors."""
    left, _ = np.linalg.qr(matrix(rows, len(values), seed).numpy())
    right, _ = np.linalg.qr(matrix(columns, len(values), seed + 1).numpy())
    return torch.from_numpy((left * np.asarray(values)) @ right.T)


def orthonormal(columns, tolerance=1e-7):
    return torch.allclose(columns.T @ columns, torch.eye(columns.shape[1]).double(), atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_product_are_those_of_the_reference(shape):
    x = matrix(*shape)
    u, s, vt = svd(x)
    np.testing.assert_allclose(s, np.linalg.svd(x.numpy(), compute_uv=False), rtol=1e-10)
    np.testing.assert_allclose((u * s) @ vt, x, atol=1e-12)
    assert orthonormal(u)
    assert orthonormal(vt.T)


@pytest.mark.parametrize("shape", [(40, 40), (30, 90), (90, 30)])
@pytest.mark.parametrize("decades", [1, 3, 4.5, 5.9])
def test_small_singular_values_keep_their_digits_and_their_vectors(shape, decades):
    values = np.logspace(0, -decades, 30)
    x = with_spectrum(*shape, values)[: shape[0]]
    u, s, vt = svd(x)
    np.testing.assert_allclose(s[:30], values, rtol=1e-8)
    assert orthonormal(u[:, :30])
    assert orthonormal(vt[:30].T)
    np.testing.assert_allclose((u * s) @ vt, x, atol=1e-12)


@pytest.mark.parametrize("shape", [(20, 12), (12, 20), (12, 12)])
def test_directions_below_a_millionth_are_null(shape):
    u, s, vt = svd(with_spectrum(*shape, [1, 0.5, 2e-6, 5e-7, 1e-9]))
    assert s[:3].tolist() == pytest.approx([1, 0.5, 2e-6])
    assert not s[3:].any()
    assert not u[:, 3:].any()
    assert not vt[3:].any()


def test_a_zero_matrix_has_a_zero_spectrum():
    u, s, vt = svd(torch.zeros(4, 3))
    assert (u.shape, s.shape, vt.shape) == ((4, 3), (3,), (3, 3))
    assert not any(found.any() for found in (u, s, vt, polar(torch.zeros(4, 3))))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_a_matrix_without_entries_has_no_values(shape):
    u, s, vt = svd(torch.zeros(shape))
    assert (u.shape, s.shape, vt.shape) == ((shape[0], 0), (0,), (0, shape[1]))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (600, 520)])
def test_what_is_no_number_stays_visible(bad, shape):
    x = torch.ones(shape)
    x[1, 2] = bad
    for found in (*svd(x), *top_singular(x, 2), polar(x), *left_singular(x[None])):
        assert found.isnan().all()


def test_float32_is_decomposed_in_float64_and_left_as_it_was():
    x = matrix(9, 5).float()
    before = x.clone()
    assert all(found.dtype == torch.float64 for found in (*svd(x), *top_singular(x, 2), polar(x)))
    assert torch.equal(x, before)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_polar_factor_is_that_of_the_reference(shape):
    x = matrix(*shape)
    u, _, vt = np.linalg.svd(x.numpy(), full_matrices=False)
    np.testing.assert_allclose(polar(x), u @ vt, atol=1e-8)


def test_the_polar_factor_of_a_low_rank_matrix_joins_its_row_and_column_space():
    x = with_spectrum(20, 15, [3, 2, 1])
    u, _, vt = np.linalg.svd(x.numpy())
    np.testing.assert_allclose(polar(x), u[:, :3] @ vt[:3], atol=1e-10)


def test_the_polar_factor_of_a_repeated_block_is_that_block_scaled():
    q, _ = np.linalg.qr(matrix(9, 3).numpy())
    repeated = torch.from_numpy(np.concatenate([q, q], 1))
    np.testing.assert_allclose(polar(repeated), repeated / 2**0.5, atol=1e-12)


def test_the_polar_factor_turns_with_its_matrix():
    x = matrix(12, 7)
    left, right = polar(matrix(12, 12, 1)), polar(matrix(7, 7, 2))
    np.testing.assert_allclose(polar(left @ x @ right), left @ polar(x) @ right, atol=1e-9)


@pytest.mark.parametrize("k", [0, 1, 4, 7, 9])
def test_the_head_is_the_beginning_of_the_whole(k):
    x = matrix(11, 7)
    for head, whole in zip(top_singular(x, k), (svd(x)[0][:, :k], svd(x)[1][:k], svd(x)[2][:k]), strict=True):
        assert torch.equal(head, whole)


@pytest.fixture
def small_sketches(monkeypatch):
    """Heads of small matrices are sketched as well, so that a test takes no seconds."""
    monkeypatch.setattr(spectra, "SKETCH_SIDE", 128)


@pytest.mark.usefixtures("small_sketches")
@pytest.mark.parametrize("shape", [(190, 260), (260, 190)])
def test_a_sketched_head_is_that_of_the_reference(shape):
    values = 0.8 ** np.arange(100)
    x = with_spectrum(*shape, values)
    assert spectra._sketch(x, 7) is not None
    u, s, vt = top_singular(x, 7)
    np.testing.assert_allclose(s, values[:7], rtol=1e-10)
    assert orthonormal(u, 1e-12)
    assert orthonormal(vt.T, 1e-12)
    np.testing.assert_allclose(x @ vt.T, u * s, atol=1e-7)
    np.testing.assert_allclose(x.T @ u, vt.T * s, atol=1e-7)
    left, _, right = np.linalg.svd(x.numpy(), full_matrices=False)
    np.testing.assert_allclose((u * s) @ vt, (left[:, :7] * values[:7]) @ right[:7], atol=1e-6)


def test_a_sketch_says_where_the_rank_ends():
    u, s, vt = top_singular(with_spectrum(560, 560, [3, 2, 1]), 5)
    assert s.tolist() == pytest.approx([3, 2, 1, 0, 0])
    assert not u[:, 3:].any()
    assert not vt[3:].any()


@pytest.mark.usefixtures("small_sketches")
def test_a_flat_spectrum_is_not_sketched():
    x = matrix(190, 200)
    assert spectra._sketch(x, 7) is None
    np.testing.assert_allclose(top_singular(x, 7)[1], np.linalg.svd(x.numpy(), compute_uv=False)[:7], rtol=1e-12)


@pytest.mark.usefixtures("small_sketches")
def test_a_sketch_is_the_same_every_time():
    x = with_spectrum(190, 190, 0.7 ** np.arange(60))
    assert all(torch.equal(one, other) for one, other in zip(top_singular(x, 6), top_singular(x, 6), strict=True))


@pytest.mark.parametrize("models, rows, columns", [(3, 8, 6), (2, 30, 6), (1, 5, 5), (4, 5, 1)])
def test_stacked_matrices_have_the_left_vectors_of_the_stack(models, rows, columns):
    x = matrix(models * rows, columns).reshape(models, rows, columns)
    u, s, _ = np.linalg.svd(np.concatenate(list(x.numpy()), 1), full_matrices=False)
    left, values = left_singular(x)
    np.testing.assert_allclose(values, s, rtol=1e-9)
    np.testing.assert_allclose(np.abs(np.sum(left.numpy() * u, 0)), 1, rtol=1e-9)


@pytest.mark.parametrize("rows", [6, 30])
def test_null_directions_of_a_stack_are_left_out(rows):
    once = with_spectrum(rows, 6, [2, 1])
    left, values = left_singular(torch.stack([once, once, 0 * once]))
    assert values.tolist() == pytest.approx([8**0.5, 2**0.5])
    assert left.shape == (rows, 2)
