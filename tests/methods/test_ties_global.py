from __future__ import annotations

import numpy as np
import pytest
import torch

from merging.methods.application import Application
from merging.methods.apply import merge_tensor
from merging.methods.declare import find_method
from tests.methods.together import measured_together
from tests.methods.transcription import task_vectors


def transcription(x, share, reduce="mean"):
    """The authors' notebook: x (models, d) over all parameters."""
    d = x.shape[1]
    trimmed = np.zeros_like(x)
    for row, out in zip(x, trimmed, strict=True):
        threshold = np.sort(np.abs(row))[max(0, d - int(d * share) - 1)]
        for i in range(d):
            if abs(row[i]) >= threshold:
                out[i] = row[i]
    sign = np.sign(trimmed.sum(0))
    majority = np.sign(sign.sum())
    result = np.zeros(d)
    for i in range(d):
        elected = sign[i] if sign[i] != 0 else majority
        agree = [entry for entry in trimmed[:, i] if (entry > 0 if elected > 0 else entry < 0)]
        result[i] = sum(agree) / (max(1, len(agree)) if reduce == "mean" else 1)
    return result


def ties_global(x, **parameters):
    x = torch.as_tensor(x)
    return merge_tensor("ties_global", x, torch.zeros(x.shape[1:]), **parameters)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_paper(share, normalize):
    x = task_vectors(seed=3, n=311)
    expected = transcription(x.astype(np.float64), share, "mean" if normalize else "sum")
    np.testing.assert_allclose(ties_global(x, density=share, normalize=normalize), expected, rtol=1e-5, atol=1e-8)


def test_the_default_is_the_papers():
    x = task_vectors(seed=4)
    np.testing.assert_allclose(ties_global(x), transcription(x.astype(np.float64), 0.2), rtol=1e-5, atol=1e-8)


def test_one_entry_more_than_the_share_is_kept():
    assert ties_global([[1.0, 2.0, 3.0, 4.0, 5.0]], density=0.4).tolist() == [0, 0, 3, 4, 5]


def test_density_one_keeps_everything():
    assert ties_global([[1.0, -2.0, 0.5]], density=1.0).tolist() == [1, -2, 0.5]


@pytest.mark.parametrize("rest, cancelled", [(7.0, 2.0), (-7.0, -2.0)])
def test_cancelling_entries_take_the_sign_that_most_entries_elect(rest, cancelled):
    x = [[2.0, rest, rest, 9.0], [-2.0, rest, rest, -8.0]]
    assert ties_global(x, density=1.0)[0] == cancelled
    np.testing.assert_allclose(ties_global(x, density=0.99), transcription(np.array(x), 0.99))


def test_without_any_majority_cancelling_entries_are_negative():
    x = [[2.0, 5.0, -5.0], [-2.0, 5.0, -5.0]]
    assert ties_global(x, density=1.0).tolist() == [-2, 5, -5]


def test_thresholds_are_those_of_all_tensors_together():
    x = torch.from_numpy(task_vectors(seed=5, n=400))
    small, large = x[:, :100] * 0.01, x[:, 100:]
    use = Application(find_method("ties_global"), {}, len(x))
    measured = measured_together(use, (small, large))
    found = torch.cat([use.merge(part, measured) for part in (small, large)])
    assert torch.equal(found, ties_global(torch.cat([small, large], 1)))
    assert not found[:100].any()
