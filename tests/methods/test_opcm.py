from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.application import Application
from merging.methods.apply import merge_tensor
from merging.methods.declare import find_method
from merging.methods.opcm import mean_norm


def transcription(models, share):
    """The paper's loop over models, each a list of float64 task vectors, rescaled after every model; full bases."""
    merged, scale, norms = [], 1.0, []
    for t, tensors in enumerate(models):
        norms.append(np.sqrt(sum((x**2).sum() for x in tensors)))
        if t == 0:
            merged = [x.copy() for x in tensors]
            continue
        y = [scale * m + (cleaned(m, x, share) if x.ndim == 2 else x) for m, x in zip(merged, tensors, strict=True)]
        length = np.sqrt(sum((each**2).sum() for each in y))
        scale = length / np.mean(norms)
        merged = [each / scale for each in y]
    return merged, scale, np.mean(norms)


def cleaned(m, x, share):
    if not m.any():
        return x
    u, s, vt = np.linalg.svd(m, full_matrices=True)
    p = u.T @ x @ vt.T
    beyond = [k for k in range(len(s)) if s[: k + 1].sum() / s.sum() > share]
    r = beyond[0] if share < 1 else 0
    for i in range(len(s)):
        if s[i] > 1e-6 * s[0]:
            p[i, i] = 0
    p[:r, :r] = 0
    return u @ p @ vt


def opcm(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("opcm", x, torch.zeros(x.shape[1:]), **parameters)


def changes(seed, *shape):
    return (np.random.default_rng(seed).standard_normal(shape) * 0.01).astype(np.float32)


def merged_together(models, **parameters):
    """Several tensors of a model merged as the engine does it: rounds and finish over the whole model."""
    shapes = [x.shape[1:] for x in models]
    count = len(models[0])
    uses = [Application(find_method("opcm"), parameters, count, 2, reach=find_method("opcm").reach(s)) for s in shapes]
    measured = {}
    for step in uses[0].rounds:
        measured[step.__name__] = sum(uses[0].measure(step, x.reshape(count, -1), measured) for x in models)
    merged = []
    for use, x in zip(uses, models, strict=True):
        if use.reach == "span":
            merged.append(sum(c * each for c, each in zip(use.coefficients(measured).tolist(), x, strict=True)))
            continue
        state = None
        for position, each in enumerate(x):
            state = use.fold(state, each, position, measured)
        merged.append(state)
    total = sum(use.tally(y, measured) for use, y in zip(uses, merged, strict=True))
    finished = [use.finish(y, total, measured) for use, y in zip(uses, merged, strict=True)]
    return finished, float(total), measured


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("shape", [(5, 5), (8, 3), (3, 8)])
@pytest.mark.parametrize("models", [1, 2, 4])
def test_the_paper(share, shape, models):
    x = changes(1, models, *shape)
    expected, _, _ = transcription([[each.astype(np.float64)] for each in x], share)
    np.testing.assert_allclose(opcm(x, projection=share), expected[0], rtol=1e-5, atol=1e-8)


def test_the_default_is_the_papers():
    x = changes(2, 3, 6, 4)
    assert torch.equal(opcm(x), opcm(x, projection=0.5))


def test_lambda_and_the_mean_norm_are_those_of_the_whole_model():
    shapes = [(6, 4), (4,), (3, 5)]
    models = [torch.from_numpy(changes(seed, 3, *shape)) for seed, shape in enumerate(shapes)]
    listed = [[x[i].numpy().astype(np.float64) for x in models] for i in range(3)]
    expected, scale, norm = transcription(listed, 0.5)
    found, total, measured = merged_together(models)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-8)
    assert mean_norm(measured["squared_norms"].sqrt().tolist(), 0, 0.0) == pytest.approx(norm, rel=1e-6)
    assert total**0.5 / mean_norm(measured["squared_norms"].sqrt().tolist(), 0, 0.0) == pytest.approx(scale, rel=1e-6)


def test_three_models_continued_with_the_fourth_are_four_models():
    x = torch.from_numpy(changes(3, 4, 7, 5))
    _, scale, norm = transcription([[each.numpy().astype(np.float64)] for each in x[:3]], 0.5)
    three = opcm(x[:3])
    four = opcm(torch.stack([three, x[3]]), earlier=3, earlier_scale=scale, earlier_norm=norm)
    np.testing.assert_allclose(four, opcm(x), rtol=1e-5, atol=1e-8)


def test_a_merge_continues_from_what_its_rounds_say():
    models = [torch.from_numpy(changes(seed, 4, *shape)) for seed, shape in enumerate([(6, 4), (4,)])]
    three, total, measured = merged_together([x[:3] for x in models])
    norm = mean_norm(measured["squared_norms"].sqrt().tolist(), 0, 0.0)
    pairs = [torch.stack([each, x[3]]) for each, x in zip(three, models, strict=True)]
    four, _, _ = merged_together(pairs, earlier=3, earlier_scale=total**0.5 / norm, earlier_norm=norm)
    for one, other in zip(four, merged_together(models)[0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-8)


def test_a_merge_of_known_lambda_continues_without_its_mean_norm():
    x = torch.from_numpy(changes(4, 4, 7, 5))
    _, scale, _ = transcription([[each.numpy().astype(np.float64)] for each in x[:3]], 0.5)
    four = opcm(torch.stack([opcm(x[:3]), x[3]]), earlier=3, earlier_scale=scale)
    np.testing.assert_allclose(four, opcm(x), rtol=1e-5, atol=1e-8)


def test_the_merged_task_vector_is_as_long_as_the_models_on_average():
    x = torch.from_numpy(changes(5, 4, 6, 6)) * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None]
    mean = torch.linalg.vector_norm(x, dim=(1, 2)).mean()
    assert torch.linalg.vector_norm(opcm(x)) == pytest.approx(float(mean), rel=1e-5)


def test_a_single_model_stays_what_it_is():
    x = torch.from_numpy(changes(6, 1, 5, 4))
    np.testing.assert_allclose(opcm(x), x[0], rtol=1e-6)


def test_equal_models_are_a_fixed_point():
    x = torch.from_numpy(changes(7, 1, 5, 4)).expand(3, 5, 4)
    np.testing.assert_allclose(opcm(x), x[0], rtol=1e-5, atol=1e-8)


def test_scaled_models_give_the_scaled_merge():
    x = changes(13, 3, 5, 4)
    np.testing.assert_allclose(opcm(x * 2**8), opcm(x) * 2**8, rtol=1e-6)


def test_vectors_are_summed_and_scaled_only():
    x = torch.from_numpy(changes(8, 3, 20))
    total = x.sum(0)
    length = torch.linalg.vector_norm(x, dim=1).mean() / torch.linalg.vector_norm(total)
    np.testing.assert_allclose(opcm(x), total * length, rtol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_zero_first_model_removes_nothing_from_the_second(share):
    x = torch.from_numpy(changes(9, 1, 4, 4))
    found = opcm(torch.cat([torch.zeros(1, 4, 4), x]), projection=share)
    np.testing.assert_allclose(found, x[0] / 2, rtol=1e-5)


def test_a_zero_later_model_changes_the_length_only():
    x = torch.from_numpy(changes(10, 1, 4, 4))
    np.testing.assert_allclose(opcm(torch.cat([x, torch.zeros(1, 4, 4)])), x[0] / 2, rtol=1e-5, atol=1e-9)


def test_models_that_are_the_base_model_give_the_base_model():
    assert not opcm(torch.zeros(3, 4, 4)).any()


def test_nothing_is_removed_along_the_null_space_of_a_low_rank_task_vector():
    first = np.zeros((5, 5), np.float32)
    first[0, 0] = 2
    second = np.ones((5, 5), np.float32)
    expected = first + second
    expected[0, 0] = 2
    found = opcm(np.stack([first, second]), projection=1.0)
    np.testing.assert_allclose(found / found[1, 1], expected, rtol=1e-6)


def test_low_rank_task_vectors_are_merged_as_in_the_transcription():
    generator = np.random.default_rng(11)
    x = (generator.standard_normal((3, 9, 2)) @ generator.standard_normal((3, 2, 7))).astype(np.float32)
    expected, _, _ = transcription([[each.astype(np.float64)] for each in x], 0.5)
    np.testing.assert_allclose(opcm(x), expected[0], rtol=1e-4, atol=1e-6)


def test_the_order_of_models_matters():
    x = torch.from_numpy(changes(12, 2, 6, 6))
    assert not torch.allclose(opcm(x), opcm(x.flip(0)), rtol=1e-3)
