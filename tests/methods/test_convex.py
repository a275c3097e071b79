from __future__ import annotations

import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor


def models(count=3, n=30):
    return torch.randn(count, n, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weights", [[1, 1, 1], [0.2, 0, 1.5], [0, 0, 2], [1e-9, 2e-9, 3e-9], [5, 1e-9, 0]])
def test_a_preference_is_a_convex_combination(weights):
    x = models().double()
    expected = sum(weight / sum(weights) * row for weight, row in zip(weights, x, strict=True))
    assert torch.allclose(merge_tensor("convex", models(), weight=weights).double(), expected, atol=1e-6)


def test_no_preference_is_the_mean():
    assert torch.allclose(merge_tensor("convex", models()), models().mean(0), atol=1e-6)


def test_every_entry_lies_between_the_models():
    x = models(4)
    found = merge_tensor("convex", x, weight=[0.3, 2, 0.1, 7])
    assert (found <= x.amax(0) + 1e-6).all() and (found >= x.amin(0) - 1e-6).all()


def test_a_preference_for_one_model_gives_that_model():
    assert torch.allclose(merge_tensor("convex", models(), weight=[0, 3, 0]), models()[1], atol=1e-6)


def test_equal_models_come_back_bit_for_bit():
    x = models(1)[0]
    assert torch.equal(merge_tensor("convex", [x, x, x], weight=[0.1, 0.2, 0.4]), x)


def test_a_negative_preference_is_refused():
    with pytest.raises(ParameterError, match=r"weight cannot be -0\.1") as caught:
        merge_tensor("convex", models(), weight=[1, 1, -0.1])
    assert caught.value.must_be == "a number of at least 0"


def test_preferences_that_are_all_zero_are_refused():
    with pytest.raises(ParameterError, match="preferences that are all 0") as caught:
        merge_tensor("convex", models(), weight=0)
    assert caught.value.must_be
    assert caught.value.fix
