from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor
from tests.methods.transcription import task_vectors


def bitdelta(x, **parameters):
    x = torch.as_tensor(x)[None]
    return merge_tensor("bitdelta", x, torch.zeros(x.shape[1:]), **parameters)


@pytest.mark.parametrize("shape", [(4, 6), (3, 2, 2, 3), (2, 30)])
@pytest.mark.parametrize("scale", [1.0, -0.5])
def test_the_paper(shape, scale):
    x = task_vectors(seed=1, models=1, n=int(np.prod(shape)))[0].reshape(shape)
    mean = sum(abs(float(entry)) for entry in x.flat) / x.size
    expected = [scale * mean * (1 if entry > 0 else -1) for entry in x.flat]
    np.testing.assert_allclose(bitdelta(x, lambda_=scale).flatten(), expected, rtol=1e-6)


def test_the_base_model_is_added():
    base = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    found = merge_tensor("bitdelta", base[None] + torch.tensor([[2.0, -2.0], [4.0, 4.0]]), base)
    assert found.tolist() == [[4, -1], [6, 7]]


@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (5, 1)])
def test_what_is_no_matrix_keeps_its_changes(shape):
    x = torch.arange(5.0).reshape(shape) if shape else torch.tensor(3.0)
    assert torch.equal(bitdelta(x), x)


def test_a_fused_projection_has_a_size_for_each_matrix():
    from merging.methods.application import Application
    from merging.methods.declare import find_method
    from merging.methods.layout import Layout, by_matrix

    x = torch.cat([torch.full((2, 2), size) for size in (1.0, 2.0, 4.0)])
    use = Application(find_method("bitdelta"), {}, 1, axes=2, reach="matrix")
    merged = by_matrix(lambda part: use.merge(part, {}), (6, 2), Layout(parts=3), x.reshape(1, -1))
    assert torch.equal(merged.reshape(6, 2), x)


def test_an_entry_that_did_not_change_stays():
    assert bitdelta([[1.0, 0.0], [0.0, -3.0]]).tolist() == [[1, 0], [0, -1]]


def test_equal_magnitudes_are_stored_exactly():
    x = torch.tensor([[0.25, -0.25], [-0.25, 0.25]])
    assert torch.equal(bitdelta(x), x)


def test_the_mean_magnitude_is_the_nearest_size():
    x = torch.from_numpy(task_vectors(seed=2, models=1, n=64)[0].reshape(8, 8))
    errors = [float((bitdelta(x, lambda_=scale) - x).square().sum()) for scale in (0.99, 1.0, 1.01)]
    assert errors[1] < min(errors[0], errors[2])


def test_several_models_are_refused():
    with pytest.raises(ParameterError, match="bitdelta cannot merge 2 models"):
        merge_tensor("bitdelta", torch.ones(2, 2, 2), torch.zeros(2, 2))
