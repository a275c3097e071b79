from __future__ import annotations

import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor


def pair():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(30, generator=generator)
    return base, base + 0.1 * torch.randn(30, generator=generator)


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_line_is_that_of_the_paper(weight):
    base, tuned = pair()
    expected = [(1 - weight) * b + weight * x for b, x in zip(base.tolist(), tuned.tolist(), strict=True)]
    assert torch.allclose(merge_tensor("wise_ft", tuned[None], base, weight=weight), torch.tensor(expected), atol=1e-6)


def test_half_way_is_the_default():
    base, tuned = pair()
    assert torch.allclose(merge_tensor("wise_ft", tuned[None], base), (base + tuned) / 2, atol=1e-6)


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_points_beyond_the_ends_are_refused(weight):
    base, tuned = pair()
    with pytest.raises(ParameterError, match="weight cannot be"):
        merge_tensor("wise_ft", tuned[None], base, weight=weight)


def test_a_second_fine_tune_is_refused():
    base, tuned = pair()
    with pytest.raises(ParameterError, match="wise_ft cannot merge 2 models"):
        merge_tensor("wise_ft", [tuned, tuned], base)
