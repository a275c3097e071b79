from __future__ import annotations

import pytest
import torch

from merging.methods.application import Application
from merging.methods.apply import merge_tensor
from merging.methods.declare import find_method


def transcription(task_vectors):
    """One lambda for each model, over all its tensors; tensors are lists of task vectors, in float64."""
    squares = [sum(v * v for tensor in model for v in tensor.tolist()) for model in zip(*task_vectors, strict=True)]
    return [square / sum(squares) for square in squares]


def task_vectors(models=3, n=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(models, n, generator=generator) * torch.linspace(0.1, 3, models)[:, None]


def whole_model(tensors):
    method = find_method("metagpt")
    use = Application(method, {}, len(tensors[0]))
    (step,) = use.rounds
    return use.coefficients({step.__name__: sum(use.measure(step, tensor, {}) for tensor in tensors)})


@pytest.mark.parametrize("models", [1, 2, 5])
def test_one_tensor_is_that_of_the_paper(models):
    x = task_vectors(models)
    expected = sum(share * row for share, row in zip(transcription([x]), x.double(), strict=True))
    base = torch.ones(30)
    assert torch.allclose(merge_tensor("metagpt", base + x, base).double(), 1 + expected, atol=1e-5)


def test_lengths_are_those_of_the_whole_model():
    tensors = [task_vectors(n=5), 10 * task_vectors(n=7, seed=1), task_vectors(n=1, seed=2).flip(0)]
    assert whole_model(tensors).tolist() == pytest.approx(transcription(tensors), rel=1e-12)
    assert find_method("metagpt").needs.scope == "model"


def test_the_longest_task_vector_counts_most():
    x = torch.eye(2) * torch.tensor([1.0, 3.0])
    assert merge_tensor("metagpt", x, torch.zeros(2)).tolist() == pytest.approx([0.1, 2.7])


def test_where_nothing_changed_all_share_equally():
    assert whole_model([torch.zeros(4, 9)]).tolist() == [0.25] * 4


def test_equal_models_come_back():
    x = task_vectors(1)[0]
    assert torch.allclose(merge_tensor("metagpt", [x, x, x], torch.zeros(30)), x, rtol=1e-6)
