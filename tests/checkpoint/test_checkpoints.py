"""Laws of every checkpoint, whatever it is made of."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from merging.checkpoint.tensors import Checkpoint, dtype_name
from tests.checkpoint.kinds import KINDS, Kind

everywhere = pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])


def bits(x: Tensor) -> bytes:
    return bytes(x.contiguous().reshape(-1).view(torch.uint8).tolist()) if x.numel() else b""


@everywhere
def test_it_is_a_checkpoint(kind: Kind, tmp_path: Path) -> None:
    checkpoint, _ = kind(tmp_path)
    assert isinstance(checkpoint, Checkpoint)
    assert checkpoint.location
    assert checkpoint.config == {}
    assert checkpoint.sidecars() == {}


@everywhere
def test_it_yields_the_tensors_that_were_stored(kind: Kind, tmp_path: Path) -> None:
    checkpoint, tensors = kind(tmp_path)
    assert set(checkpoint.specs) == set(tensors)
    for name, tensor in tensors.items():
        spec, read = checkpoint.specs[name], checkpoint.read(name)
        assert (spec.name, spec.shape, spec.dtype) == (name, tuple(tensor.shape), dtype_name(tensor.dtype))
        assert read.dtype == tensor.dtype
        assert read.shape == (spec.entries,)
        if name == "q.weight":
            assert torch.allclose(read, tensor.reshape(-1), atol=1e-5)
        else:
            assert bits(read) == bits(tensor)


@everywhere
def test_reading_by_ranges_is_reading_the_whole(kind: Kind, tmp_path: Path) -> None:
    checkpoint, _ = kind(tmp_path)
    choose = random.Random(0)
    for name, spec in checkpoint.specs.items():
        cuts = sorted({0, spec.length, *(choose.randint(0, spec.length) for _ in range(5))})
        pieces = b"".join(bits(checkpoint.read(name, a, b)) for a, b in pairwise(cuts))
        assert pieces == bits(checkpoint.read(name))


@everywhere
def test_reading_from_many_threads_gives_the_same(kind: Kind, tmp_path: Path) -> None:
    checkpoint, _ = kind(tmp_path)
    names = list(checkpoint.specs) * 4
    with ThreadPoolExecutor(4) as threads:
        read = list(threads.map(checkpoint.read, names))
    assert all(bits(x) == bits(checkpoint.read(name)) for name, x in zip(names, read, strict=True))


@everywhere
def test_its_fingerprint_stays_and_is_the_contents(kind: Kind, tmp_path: Path) -> None:
    places = [tmp_path / "one", tmp_path / "two"]
    for place in places:
        place.mkdir()
    one, two = (kind(place)[0] for place in places)
    assert one.fingerprint == one.fingerprint == two.fingerprint
    assert len(bytes.fromhex(one.fingerprint)) == 32
