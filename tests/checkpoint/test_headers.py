"""Headers as the reference parser reads them, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from merging.checkpoint.headers import NAME_LIMIT, name_fault, parse_header, parse_index
from merging.checkpoint.tensors import DTYPES
from merging.errors import CheckpointError, MergingError, Problems

SIZES = {name: facts.bits // 8 for name, facts in DTYPES.items() if facts.bits >= 8}
WRONG_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70), st.floats(), st.text(max_size=3), st.just([]), st.just({}),
    st.sampled_from([1 << 31, 1 << 63, (1 << 64) - 1, 1 << 70]),
)  # fmt: skip


def whole_file(text: bytes, data: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text + data


def reference(text: bytes, data: bytes) -> dict[str, tuple[Any, ...]] | None:
    try:
        found = deserialize(whole_file(text, data))  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError, OverflowError):
        return None
    return {name: (tuple(entry["shape"]), entry["dtype"], bytes(entry["data"])) for name, entry in found}


def ours(text: bytes, data: bytes) -> dict[str, tuple[Any, ...]] | None:
    file = whole_file(text, data)
    try:
        header = parse_header(text, len(file), "fuzz")
    except MergingError:
        return None
    return {
        name: (spec.shape, spec.dtype, file[header.starts[name] : header.starts[name] + spec.nbytes])
        for name, spec in header.specs.items()
    }


@st.composite
def headers(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """A header that is valid, and its data."""
    entries: dict[str, Any] = {}
    at = 0
    for name in draw(st.lists(st.text(min_size=1, max_size=6), max_size=4, unique=True)):
        dtype = draw(st.sampled_from(sorted(SIZES)))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        nbytes = SIZES[dtype]
        for size in shape:
            nbytes *= size
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + nbytes]}
        at += nbytes
    if draw(st.booleans()):
        entries["__metadata__"] = {"format": "pt"}
    return entries, bytes(i % 251 for i in range(at))


def changed(draw: Callable[[st.SearchStrategy[Any]], Any], value: Any) -> Any:
    """The same JSON with one value, somewhere, replaced, removed or repeated."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: changed(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        i = draw(st.integers(0, len(value) - 1))
        kept = [value[i]] if draw(st.booleans()) else []
        return [*value[:i], *kept, changed(draw, value[i]), *value[i + 1 :]]
    if isinstance(value, int) and draw(st.booleans()):
        return value + draw(st.sampled_from([-8, -1, 1, 4]))
    return draw(WRONG_VALUES)


@given(headers())
def test_a_valid_header_reads_as_the_reference_reads_it(case: tuple[dict[str, Any], bytes]) -> None:
    entries, data = case
    text = json.dumps(entries).encode()
    read = ours(text, data)
    faults = [name for name in entries if name != "__metadata__" and name_fault(name)]
    assert read is None if faults else read == reference(text, data)


@given(headers(), st.data())
def test_a_header_with_changed_values_is_refused_or_reads_as_the_reference_reads_it(
    case: tuple[dict[str, Any], bytes], data: st.DataObject
) -> None:
    entries, content = case
    text = json.dumps(changed(data.draw, entries)).encode()
    read = ours(text, content)
    assert read is None or read == reference(text, content)


@given(headers(), st.data())
def test_a_header_with_changed_bytes_is_refused_or_reads_as_the_reference_reads_it(
    case: tuple[dict[str, Any], bytes], data: st.DataObject
) -> None:
    entries, content = case
    text = bytearray(json.dumps(entries).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        i = data.draw(st.integers(0, len(text) - 1))
        piece = data.draw(
            st.sampled_from([b"", b"-", b"0", b"1", b'"', b",", b"}", b"[", b" ", b"\\", b"\x00", b"\xff"])
        )
        text[i : i + data.draw(st.integers(0, 2))] = piece
        text = text or bytearray(b"{")
    read = ours(bytes(text), content)
    assert read is None or read == reference(bytes(text), content)


def test_tensors_come_in_the_order_of_their_bytes() -> None:
    entries = {
        "b": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]},
        "a": {"dtype": "U8", "shape": [], "data_offsets": [0, 1]},
    }
    text = json.dumps(entries).encode()
    header = parse_header(text, 8 + len(text) + 3, "here")
    assert list(header.specs) == ["a", "b"]
    assert header.starts == {"a": 8 + len(text), "b": 9 + len(text)}


def test_the_longest_allowed_name_is_read_and_a_longer_one_is_not() -> None:
    assert name_fault("x" * NAME_LIMIT) is None
    assert name_fault("x" * (NAME_LIMIT + 1))
    assert name_fault("modèle.层.0 w") is None


def test_all_problems_of_an_index_are_told_together() -> None:
    index = {"weight_map": {"a": "../x.safetensors", "b": 3, "c\n": "y.bin"}}
    with pytest.raises(Problems) as caught:
        parse_index(json.dumps(index).encode(), "here")
    assert len(caught.value.problems) == 4


def test_an_index_may_be_large_and_flat() -> None:
    weight_map = {f"layer.{i}.weight": f"model-{i % 9}.safetensors" for i in range(60_000)}
    assert parse_index(json.dumps({"weight_map": weight_map}).encode(), "here").weight_map == weight_map


def test_a_header_that_is_cut_is_told_from_one_that_lies() -> None:
    text = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    with pytest.raises(CheckpointError, match="cut short"):
        parse_header(text, 8 + len(text) + 7, "here")
