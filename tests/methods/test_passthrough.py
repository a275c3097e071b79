from __future__ import annotations

import pytest
import torch

from merging.errors import ParameterError
from merging.methods.apply import merge_tensor


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_model_comes_back_bit_for_bit(dtype):
    x = torch.randn(1, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(merge_tensor("passthrough", x), x[0])


def test_a_scale_multiplies_every_entry():
    assert merge_tensor("passthrough", torch.tensor([[1.0, -2.0]]), scale=0.0).tolist() == [0, 0]
    assert merge_tensor("passthrough", torch.tensor([[1.0, -2.0]]), scale=-1.5).tolist() == [-1.5, 3]


def test_two_models_are_refused():
    with pytest.raises(ParameterError, match="passthrough cannot merge 2 models"):
        merge_tensor("passthrough", torch.ones(2, 3))
