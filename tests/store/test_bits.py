"""Masks of one bit an entry, against numpy's packing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from merging.store.bits import pack, packed_bytes, unpack


@given(st.lists(st.booleans(), max_size=70))
def test_packing_is_that_of_numpy_with_the_first_entry_lowest(bits: list[bool]) -> None:
    expected = np.packbits(np.array(bits, dtype=bool), bitorder="little")
    packed = pack(torch.tensor(bits, dtype=torch.bool))
    assert packed.tolist() == expected.tolist()
    assert len(packed) == packed_bytes(len(bits))


@given(st.lists(st.booleans(), max_size=70), st.integers(0, 70), st.integers(0, 70))
def test_any_range_comes_back(bits: list[bool], first: int, last: int) -> None:
    start, stop = sorted((min(first, len(bits)), min(last, len(bits))))
    packed = pack(torch.tensor(bits, dtype=torch.bool))
    byte = start // 8
    found = unpack(packed[byte : packed_bytes(stop)], start - 8 * byte, stop - start)
    assert found.tolist() == [int(bit) for bit in bits[start:stop]]


@pytest.mark.parametrize("rows", [1, 3])
def test_a_mask_that_is_a_view_into_others_is_packed_as_it_reads(rows: int) -> None:
    masks = torch.rand(rows + 1, 50, generator=torch.Generator().manual_seed(rows)) > 0.5
    assert torch.equal(pack(masks[rows, 3:40]), pack(masks[rows, 3:40].clone()))
