from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.apply import merge_tensor


def transcription(task_vectors, r=0.1, alpha=0.2, epsilon=1e-5):
    """Mean of what several models changed; what one changed alone, scaled by its own ratio of counts."""
    x = task_vectors.astype(np.float64)
    changed = [[i for i, v in enumerate(entries) if abs(v) > epsilon] for entries in x.T]
    scales = []
    for model in range(len(x)):
        shared = sum(model in each and len(each) > 1 for each in changed)
        alone = sum(each == [model] for each in changed)
        scales.append(1 + r * min(max(shared / max(alone, epsilon), 0), alpha) if alone else 1.0)
    merged = []
    for entries, each in zip(x.T, changed, strict=True):
        if len(each) == 1:
            merged.append(scales[each[0]] * entries[each[0]])
        else:
            merged.append(sum(entries[i] for i in each) / len(each) if each else 0.0)
    return np.array(merged)


def sparse(models=4, n=200, zeros=0.6, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((models, n)) * 10 ** generator.uniform(-6, 0, (models, n))
    dropped = generator.random((models, n)) < np.linspace(zeros, 0.99, models)[:, None]
    return torch.tensor(np.where(dropped, 0, x), dtype=torch.float32)


def ramplus(task_vectors, **parameters):
    x = torch.as_tensor(task_vectors)
    return merge_tensor("ramplus_tl", x, torch.zeros(x.shape[1:]), **parameters)


@pytest.mark.parametrize("models", [1, 2, 4])
@pytest.mark.parametrize("zeros", [0.0, 0.6, 0.95])
@pytest.mark.parametrize(
    "parameters", [{}, {"r": 1.0, "alpha": 2.5}, {"r": -0.5, "alpha": 0.7}, {"epsilon": 0.01}, {"r": 0.3, "alpha": 0.0}]
)
def test_every_merge_is_that_of_the_transcription(models, zeros, parameters):
    x = sparse(models, zeros=zeros)
    np.testing.assert_allclose(ramplus(x, **parameters), transcription(x.numpy(), **parameters), rtol=1e-5, atol=1e-8)


def test_with_nothing_added_it_is_ram():
    x = sparse()
    assert torch.allclose(ramplus(x, r=0.0), merge_tensor("ram", x, torch.zeros(200)), rtol=1e-6, atol=0)


def test_own_entries_grow_with_what_is_shared_up_to_the_limit():
    x = torch.zeros(2, 20)
    x[:, 0] = x[0, 1:11] = 1.0
    assert ramplus(x, r=1.0, alpha=0.5)[1:11].tolist() == pytest.approx([1.1] * 10)
    x[:, 11:] = 1.0
    assert ramplus(x, r=1.0, alpha=0.5)[1:11].tolist() == pytest.approx([1.5] * 10)


def test_a_model_that_shares_nothing_is_not_scaled():
    x = torch.eye(3)
    assert torch.equal(ramplus(x, r=1.0), torch.ones(3))


def test_counts_of_blocks_add_up():
    x = sparse(3, n=1 << 19)
    part = ramplus(x)
    again = ramplus(x.reshape(3, 1 << 10, -1)).reshape(-1)
    assert torch.equal(part, again)
    np.testing.assert_allclose(part[:50], _with_scales_of(x, 50), rtol=1e-5, atol=1e-8)


def _with_scales_of(x, n):
    """The first entries of the transcription, with counts taken over all of x."""
    active = x.abs() > 1e-5
    count = active.sum(0)
    merged = []
    for i in range(n):
        models = active[:, i].nonzero().flatten().tolist()
        if len(models) != 1:
            merged.append(float(x[models, i].double().sum()) / max(1, len(models)))
            continue
        shared = int((active[models[0]] & (count > 1)).sum())
        alone = int((active[models[0]] & (count == 1)).sum())
        merged.append((1 + 0.1 * min(shared / alone, 0.2)) * float(x[models[0], i]))
    return merged


def test_a_change_that_is_no_number_stays_visible():
    assert ramplus([[torch.nan, 1.0], [0.0, 1.0]])[0].isnan()
