from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor


def transcription(rows, average, clamp):
    """The pulled average of one row of every task vector, in float64 and plain loops."""
    cosines = []
    for a, b in combinations(rows, 2):
        lengths = np.sqrt(sum(v * v for v in a)) * np.sqrt(sum(v * v for v in b))
        dot = sum(v * w for v, w in zip(a, b, strict=True))
        cosines.append(min(1.0, max(-1.0, dot / lengths)) if lengths else 0.0)
    cosine = np.mean(cosines) if average == "cosine" else np.cos(np.mean(np.arccos(cosines)))
    cosine = max(cosine, 0.0) if clamp else cosine
    denominator = 1 + (len(rows) - 1) * cosine
    ratio = len(rows) * cosine / denominator if abs(denominator) >= 1e-6 else 0.0
    return ratio * sum(rows) / len(rows)


def fine_tunes(*shape, models=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) + torch.randn(models, *shape, generator=generator)


def stock(task_vectors, **parameters):
    x = torch.as_tensor(task_vectors)
    return merge_tensor("model_stock_rows", x, torch.zeros(x.shape[1:]), **parameters)


@pytest.mark.parametrize("average", ["cosine", "angle"])
@pytest.mark.parametrize("shape", [(12,), (5, 12), (2, 3, 7), (2, 3, 2, 4), (6, 1)])
@pytest.mark.parametrize("models", [2, 4])
@pytest.mark.parametrize("clamp", [False, True])
def test_every_last_axis_is_that_of_the_transcription(average, shape, models, clamp):
    x = fine_tunes(*shape, models=models)
    rows = x.double().reshape(models, -1, shape[-1]).numpy()
    expected = np.stack([transcription(rows[:, i], average, clamp) for i in range(rows.shape[1])]).reshape(shape)
    np.testing.assert_allclose(stock(x, average=average, clamp=clamp), expected, rtol=1e-5, atol=1e-5)


def test_a_tensor_of_one_axis_is_one_row():
    x = fine_tunes(30)
    assert torch.allclose(stock(x), merge_tensor("model_stock", x, torch.zeros(30)), atol=1e-6)


def test_a_row_that_nobody_changed_does_not_hold_back_the_others():
    x = fine_tunes(4, 9)
    x[:, 2] = 0
    found = stock(x)
    assert not found[2].any()
    assert torch.allclose(found[[0, 1, 3]], stock(x[:, [0, 1, 3]]))


def test_equal_rows_come_back():
    x = fine_tunes(4, 9)
    x[:, 1] = x[0, 1]
    assert torch.allclose(stock(x)[1], x[0, 1], rtol=1e-6)
