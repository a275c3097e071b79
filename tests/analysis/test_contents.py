"""What a checkpoint holds, one tensor's numbers, and what sets two apart."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.analysis import contents as module
from merging.analysis.contents import contents, contrast, tensor_statistics
from merging.checkpoint.tensors import MemoryCheckpoint
from merging.errors import CheckpointError

NUMBERS = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40)


def held(**tensors: torch.Tensor) -> MemoryCheckpoint:
    return MemoryCheckpoint(tensors)


def test_contents_place_every_tensor_without_reading_one() -> None:
    class Unread(MemoryCheckpoint):
        def read(self, *_: object, **__: object) -> torch.Tensor:
            raise AssertionError("contents read a tensor")

    names = {f"model.layers.{i}.mlp.up_proj.weight": torch.zeros(4, 2) for i in range(3)}
    checkpoint = Unread({**names, "model.norm.weight": torch.ones(2)}, {"model_type": "llama", "num_hidden_layers": 3})
    found = contents(checkpoint)
    assert found.family == "llama"
    assert [each.layer for each in found.tensors] == [0, 1, 2, None]
    assert found.tensors[0].shape == (4, 2)
    assert found.tensors[0].nbytes == 32


@settings(deadline=None, max_examples=30)
@given(NUMBERS)
def test_statistics_are_those_of_a_plain_loop(values: list[float]) -> None:
    found = tensor_statistics(held(x=torch.tensor(values)), "x", bins=8)
    mean = sum(values) / len(values)
    assert (found.minimum, found.maximum) == (min(values), max(values))
    assert found.mean == pytest.approx(mean, abs=1e-9)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    assert found.deviation == pytest.approx(math.sqrt(variance), rel=1e-6, abs=1e-4)
    assert found.norm == pytest.approx(math.sqrt(sum(value * value for value in values)), rel=1e-12)
    assert found.zeros == values.count(0.0)
    assert sum(found.counts) == len(values)
    assert len(found.edges) == 9


def test_statistics_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = held(x=torch.randn(1000, generator=torch.Generator().manual_seed(0)))
    whole = tensor_statistics(checkpoint, "x")
    monkeypatch.setattr(module, "BLOCK", 7)
    cut = tensor_statistics(checkpoint, "x")
    assert cut.counts == whole.counts
    assert cut.norm == pytest.approx(whole.norm, rel=1e-12)


def test_entries_that_are_not_finite_are_counted_and_left_out() -> None:
    found = tensor_statistics(held(x=torch.tensor([1.0, math.inf, math.nan, 0.0])), "x")
    assert (found.non_finite, found.zeros, found.maximum) == (2, 1, 1.0)
    nothing = tensor_statistics(held(x=torch.tensor([math.nan])), "x")
    assert math.isnan(nothing.mean)
    assert nothing.counts == ()


def test_an_empty_tensor_and_equal_entries_have_statistics() -> None:
    assert tensor_statistics(held(x=torch.zeros(0)), "x").entries == 0
    assert sum(tensor_statistics(held(x=torch.full((5,), 2.0)), "x").counts) == 5


def test_a_contrast_is_that_of_a_plain_loop() -> None:
    x, y = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 0.0])
    found = contrast(held(w=x), held(w=y), "w")
    assert (found.same, found.changed, found.largest) == (False, 2, 3.0)
    assert found.norm == pytest.approx(math.sqrt(13))
    assert found.relative == pytest.approx(math.sqrt(13 / 14))
    assert found.cosine == pytest.approx(9 / math.sqrt(14 * 17))


def test_equal_tensors_of_two_dtypes_are_the_same() -> None:
    x = torch.tensor([1.0, -0.5])
    assert contrast(held(w=x), held(w=x.bfloat16()), "w").same


def test_two_tensors_that_are_not_numbers_are_not_taken_for_the_same() -> None:
    x = torch.tensor([1.0, math.nan])
    assert not contrast(held(w=x), held(w=torch.tensor([1.0, 2.0])), "w").same


def test_a_tensor_that_one_lacks_and_unequal_shapes_are_named() -> None:
    with pytest.raises(CheckpointError, match="no tensor 'v'"):
        tensor_statistics(held(w=torch.zeros(1)), "v")
    with pytest.raises(CheckpointError, match=r"\(2,\).*\(3,\)"):
        contrast(held(w=torch.zeros(2)), held(w=torch.zeros(3)), "w")
