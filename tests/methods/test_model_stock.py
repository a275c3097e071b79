from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor


def transcription(task_vectors, average="cosine", clamp=False):
    """The pulled average of task vectors, in float64 and plain loops; vectors of zeros have cosine 0."""
    x = [np.asarray(each, dtype=np.float64).ravel() for each in task_vectors]
    cosines = []
    for a, b in combinations(x, 2):
        lengths = np.sqrt(sum(v * v for v in a)) * np.sqrt(sum(v * v for v in b))
        dot = sum(v * w for v, w in zip(a, b, strict=True))
        cosines.append(min(1.0, max(-1.0, dot / lengths)) if lengths else 0.0)
    cosine = np.mean(cosines) if average == "cosine" else np.cos(np.mean(np.arccos(cosines)))
    cosine = max(cosine, 0.0) if clamp else cosine
    denominator = 1 + (len(x) - 1) * cosine
    ratio = len(x) * cosine / denominator if abs(denominator) >= 1e-6 else 0.0
    return ratio * sum(x) / len(x)


def fine_tunes(count, shared, n=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.linspace(0.5, 2, count)[:, None]
    return (shared * torch.randn(n, generator=generator) + torch.randn(count, n, generator=generator)) * lengths


def model_stock(task_vectors, **parameters):
    x = torch.as_tensor(task_vectors)
    return merge_tensor("model_stock", x, torch.zeros(x.shape[1:]), **parameters)


@pytest.mark.parametrize("average", ["cosine", "angle"])
@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("shared", [0.0, 0.3, 1.0, 10.0])
def test_every_stock_is_that_of_the_transcription(average, count, shared):
    for seed in range(3):
        x = fine_tunes(count, shared, seed=seed)
        expected = torch.tensor(transcription(x.numpy(), average))
        assert torch.allclose(model_stock(x, average=average).double(), expected, rtol=1e-5, atol=1e-5)


def test_of_the_line_to_the_average_it_is_the_point_nearest_to_the_centre():
    base, centre = torch.zeros(6), torch.tensor([3.0, 0, 0, 0, 0, 0])
    shell = torch.eye(6)[1:5] * 2
    found = merge_tensor("model_stock", centre + shell, base)
    average = (centre + shell).mean(0)
    nearest = average * float(centre @ average / (average @ average))
    assert torch.allclose(found, nearest, atol=1e-6)


def test_the_kinds_of_average_agree_on_two_models_and_not_on_three():
    two, three = fine_tunes(2, 1.0), fine_tunes(3, 1.0)
    assert torch.allclose(model_stock(two, average="angle"), model_stock(two), atol=1e-6)
    assert not torch.allclose(model_stock(three, average="angle"), model_stock(three), atol=1e-6)


def test_equal_fine_tunes_come_back():
    x = fine_tunes(1, 1.0)[0]
    assert torch.allclose(model_stock(torch.stack([x, x, x])), x, rtol=1e-6)


def test_fine_tunes_at_right_angles_leave_the_base_model():
    assert not model_stock([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]]).any()


def test_what_no_model_or_only_one_changed_stays_the_base_models():
    x = fine_tunes(2, 1.0)
    assert not model_stock(torch.zeros(2, 5)).any()
    assert not model_stock(torch.stack([x[0], torch.zeros(50)])).any()


def test_fine_tunes_that_point_apart_step_away_from_their_average():
    x = torch.tensor([[1.0, 2.0], [1.0, -3.0]])
    found = model_stock(x)
    assert float(found @ x.mean(0)) < 0
    assert not model_stock(x, clamp=True).any()


@pytest.mark.parametrize("average", ["cosine", "angle"])
@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("filter_wise", [False, True])
def test_clamped_ratios_of_short_tensors_are_those_of_the_transcription(average, count, filter_wise):
    below = 0
    for seed in range(20):
        x = fine_tunes(count, 0.2, n=3, seed=seed)
        found = model_stock(x, average=average, clamp=True, filter_wise=filter_wise)
        expected = torch.tensor(transcription(x.numpy(), average, clamp=True))
        assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-5)
        ratio = found @ x.mean(0) / x.mean(0).square().sum()
        assert -1e-6 <= ratio <= 1 + 1e-6
        below += not found.any()
    assert below > 3


def test_opposite_fine_tunes_leave_the_base_model():
    assert not model_stock([[1.0, 2.0], [-2.0, -4.0]]).any()


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1e3])
def test_short_task_vectors_are_pulled_like_long_ones(size):
    x = fine_tunes(3, 1.0)
    assert torch.allclose(model_stock(x * size) / size, model_stock(x), rtol=1e-5, atol=1e-6)


def test_filter_wise_takes_a_ratio_for_every_row():
    x = fine_tunes(3, 1.0, n=40).reshape(3, 4, 10)
    expected = torch.stack([torch.tensor(transcription(x[:, row].numpy())) for row in range(4)])
    assert torch.allclose(model_stock(x, filter_wise=True).double(), expected, atol=1e-5)


def test_one_fine_tune_is_refused():
    with pytest.raises(ParameterError, match="model_stock cannot merge 1 models"):
        model_stock(torch.ones(1, 3))
