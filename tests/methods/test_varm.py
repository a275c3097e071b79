from __future__ import annotations

import pytest
import torch

from merging.methods.apply import merge_tensor
from merging.methods.declare import find_method


def transcription(task_vectors):
    """Weights by mean squares, in float64 and plain loops."""
    rows = [row.double().flatten().tolist() for row in task_vectors]
    means = [sum(v * v for v in row) / len(row) for row in rows]
    weights = [mean / sum(means) for mean in means] if sum(means) else [1 / len(rows)] * len(rows)
    merged = [sum(w * row[i] for w, row in zip(weights, rows, strict=True)) for i in range(len(rows[0]))]
    return torch.tensor(merged).reshape(task_vectors.shape[1:])


def task_vectors(models, *shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(models, *shape, generator=generator) * torch.linspace(0.1, 3, models).reshape(
        -1, *[1] * len(shape)
    )


@pytest.mark.parametrize("models", [1, 2, 5])
@pytest.mark.parametrize("shape", [(), (1,), (30,), (4, 5), (2, 3, 4)])
def test_every_mean_is_that_of_the_transcription(models, shape):
    x = task_vectors(models, *shape)
    found = merge_tensor("varm", x, torch.zeros(shape))
    assert torch.allclose(found, transcription(x), rtol=1e-5, atol=1e-6)


def test_a_model_that_changed_nothing_has_no_say():
    x = task_vectors(2, 30)
    x[0] = 0
    assert torch.equal(merge_tensor("varm", x, torch.zeros(30)), x[1])


def test_what_nobody_changed_stays_the_base_models():
    base = torch.randn(9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(merge_tensor("varm", base.expand(3, 9), base), base)


def test_changes_too_small_for_float32_squares_are_weighed():
    x = torch.tensor([[1e-30, 0.0], [0.0, 3e-30]])
    found = merge_tensor("varm", x, torch.zeros(2))
    assert (found * 1e30).tolist() == pytest.approx([0.1, 2.7])


def test_every_tensor_is_weighed_by_itself():
    assert find_method("varm").needs.scope == "tensor"
