"""Places of tensors in the output, and headers equal to the reference writer's."""

from __future__ import annotations

import json
from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import TensorSpec as ReferenceSpec
from safetensors import serialize
from safetensors.torch import save

from merging.checkpoint import layout as layouts
from merging.checkpoint.headers import name_fault, parse_header
from merging.checkpoint.layout import lay_out
from merging.checkpoint.tensors import DTYPES, TensorSpec
from merging.errors import MergingError, OutputError

TORCH = {name: getattr(torch, facts.torch_name) for name, facts in DTYPES.items() if facts.torch_name}
NAMES = st.text(min_size=1, max_size=8).filter(lambda name: not name_fault(name))
SPECS = st.lists(
    st.builds(TensorSpec, NAMES, st.lists(st.integers(0, 4), max_size=3).map(tuple), st.sampled_from(sorted(TORCH))),
    max_size=8,
    unique_by=lambda spec: spec.name,
)


def spec(name: str, entries: int, dtype: str = "U8") -> TensorSpec:
    return TensorSpec(name, (entries,), dtype)


@given(SPECS, st.one_of(st.none(), st.just({}), st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=1)))
def test_one_file_begins_as_the_reference_writes_it(specs: list[TensorSpec], metadata: dict[str, str] | None) -> None:
    # Of no tensors and empty metadata the reference writes {},"__metadata__":{}}, which nothing reads.
    metadata = metadata if specs else metadata or None
    (file,) = lay_out(specs, 1 << 40, metadata).files
    written = save({each.name: torch.zeros(each.shape, dtype=TORCH[each.dtype]) for each in specs}, metadata)
    assert written == file.header + bytes(file.size - len(file.header))


def test_all_dtypes_are_ordered_as_the_reference_orders_them() -> None:
    buffer = torch.zeros(64, dtype=torch.uint8)
    names = {name: str(dtype).removeprefix("torch.") for name, dtype in TORCH.items()}
    given = {
        name: ReferenceSpec(dtype=short, shape=[4], data_ptr=buffer.data_ptr(), data_len=DTYPES[name].bits // 2)
        for name, short in names.items()
    }
    # The reference counts two four-bit entries as one.
    given["F4"] = ReferenceSpec(dtype="float4_e2m1fn_x2", shape=[2], data_ptr=buffer.data_ptr(), data_len=2)
    specs = [TensorSpec(name, (4,), name) for name in given]
    assert serialize(given).startswith(lay_out(specs, 1 << 40).files[0].header)


def test_metadata_keys_are_sorted() -> None:
    header = lay_out([], 1, {"b": "1", "a": "2"}).files[0].header
    assert header[8:].strip() == b'{"__metadata__":{"a":"2","b":"1"}}'


@given(SPECS, st.integers(1, 200))
def test_every_tensor_has_its_place_and_files_keep_the_bound(specs: list[TensorSpec], shard_bytes: int) -> None:
    layout = lay_out(specs, shard_bytes, {})
    assert sorted(layout.order) == sorted(each.name for each in specs)
    for i, file in enumerate(layout.files):
        held = [layout.specs[name] for name in file.tensors]
        assert sum(each.nbytes for each in held) <= shard_bytes or sum(each.nbytes > 0 for each in held) == 1
        header = parse_header(file.header[8:], file.size, file.name)
        assert list(header.starts) == list(file.tensors)
        assert all(layout.place(name) == (i, start) for name, start in header.starts.items())


def test_files_are_filled_in_the_order_given() -> None:
    specs = [spec("d", 40), spec("b", 50), spec("c", 200), spec("a", 10)]
    layout = lay_out(specs, 100)
    assert [file.tensors for file in layout.files] == [("b", "d"), ("c",), ("a",)]
    assert [file.name for file in layout.files] == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]


def test_the_index_is_written_as_transformers_writes_it() -> None:
    index = lay_out([spec("b", 60), spec("a", 60)], 100).index_json()
    assert index is not None
    files = {"b": "model-00001-of-00002.safetensors", "a": "model-00002-of-00002.safetensors"}
    expected = {"metadata": {"total_size": 120}, "weight_map": files}
    assert index.decode() == json.dumps(expected, indent=2, sort_keys=True) + "\n"
    assert lay_out([spec("a", 60)], 100).index_json() is None


def test_bytes_are_counted_for_entries_of_less_than_a_byte() -> None:
    layout = lay_out([TensorSpec("codes", (3, 4), "F4"), TensorSpec("six", (4,), "F6_E2M3")], 1000)
    assert layout.files[0].size - len(layout.files[0].header) == 6 + 3


@pytest.mark.parametrize("name", ["", "__metadata__", "a\nb", "a\x00", "x" * 2000])
def test_names_that_could_not_be_read_back_are_refused(name: str) -> None:
    with pytest.raises(OutputError):
        lay_out([spec(name, 1)], 100)


def test_two_tensors_of_one_name_are_refused() -> None:
    with pytest.raises(OutputError, match="two output tensors are called 'a'"):
        lay_out([spec("a", 1), spec("a", 2)], 100)


def test_more_metadata_than_a_header_may_hold_is_refused() -> None:
    with pytest.raises(MergingError, match="could not be read back"):
        lay_out([], 100, {"recipe": "x" * 25_000_000})


def test_a_file_takes_no_more_tensors_than_can_be_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "TENSOR_LIMIT", 3)
    assert [len(file.tensors) for file in lay_out([spec(str(i), 1) for i in range(7)], 1000).files] == [3, 3, 1]


def test_sizes_are_products_of_shapes() -> None:
    assert TensorSpec("x", (3, 4), "BF16").nbytes == 2 * prod((3, 4))
