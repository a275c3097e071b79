"""Rounds that find magnitudes by rank, through a sample so coarse that it often misleads."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from merging.algebra import windows
from merging.algebra.sparsify import coarse_magnitudes, fine_magnitudes, order_statistics
from merging.methods.application import Application
from merging.methods.apply import measure_together
from merging.methods.declare import Method, Needs
from merging.methods.parameters import Kind, Parameter
from merging.methods.ranks import rank_rounds

NAN, INF = float("nan"), float("inf")


def wanted(counts: Tensor, *, share: float) -> Tensor:
    """The ranks at a share of the entries and at its complement."""
    n = counts[:, :1]
    return torch.cat([(n * share).long() + 1, n - (n * share).long()], 1).clamp(min=1).clamp(max=n)


def past_zeros(counts: Tensor) -> Tensor:
    """The rank of the smallest entry that is not zero."""
    return counts[:, 1:] + 1


def doubled(x: Tensor) -> Tensor:
    return x * 2


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of tensors of some hundred entries."""
    monkeypatch.setattr(windows, "CHUNK", 4)
    monkeypatch.setattr(windows, "REGION", 32)
    monkeypatch.setattr(windows, "REGIONS", 2)


def measured_of(rounds, tensors, **values):
    knob = Parameter("share", "share", Kind("number", minimum=0, maximum=1), 0.5, "")
    method = Method("test", "none", Needs("task_vectors", "element", measure=rounds), wanted, (), {"share": knob})
    return measure_together(Application(method, values, len(tensors[0])), tensors)


def magnitudes(x):
    return (x.view(torch.int32) & 0x7FFFFFFF).sort(1).values.view(torch.float32)


def of(kind: str, n: int, seed: int) -> Tensor:
    """Two rows of numbers that a sample tells little about."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, n, generator=generator)
    match kind:
        case "sorted":
            return x.sort(1).values
        case "zeros":
            x[:, : n * 3 // 4] = 0
        case "few":
            return (x * 2).round() / 4
        case "quantised":
            return (1 + x * 1e-2).bfloat16().float() - 1
        case "blocks":
            return x * (torch.arange(n) // 100 + 1)
        case "small":
            x *= 1e-42
        case "hidden":
            for start, stop in windows.sampled_ranges(n):
                x[:, start:stop] *= 0.01
        case "special":
            x[:, : n // 8], x[:, n // 8 : n // 4] = NAN, -INF
    return x


KINDS = ("normal", "sorted", "zeros", "few", "quantised", "blocks", "small", "hidden", "special")


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    sizes=st.lists(st.sampled_from([0, 1, 3, 50, 128, 700]), min_size=1, max_size=3),
    seed=st.integers(0, 5),
    share=st.sampled_from([0.0, 0.01, 0.2, 0.5, 0.97, 1.0]),
)
def test_magnitudes_at_ranks_are_those_of_all_tensors_in_order(kind, sizes, seed, share):
    tensors = [of(kind, n, seed + i) for i, n in enumerate(sizes)]
    together = torch.cat(tensors, 1)
    n = together.shape[1]
    found = measured_of(rank_rounds("found", wanted), tensors, share=share)
    ranks = wanted(torch.full((2, 1), n), share=share)
    coarse = coarse_magnitudes(together)
    counted = order_statistics(coarse, fine_magnitudes(together, coarse, ranks), ranks)
    assert torch.equal(found["found"].view(torch.int32), counted.view(torch.int32))
    if n:
        expected = magnitudes(together).gather(1, ranks - 1)
        assert torch.equal(found["found"].nan_to_num(-1), expected.nan_to_num(-1))


def test_all_entries_are_counted_only_where_the_sample_misled():
    rounds = rank_rounds("found", wanted)
    plain, misled = (measured_of(rounds, [of(kind, 2000, 0)], share=0.3) for kind in ("normal", "hidden"))
    assert "found_fine" not in plain
    assert (misled["found_found"] == -1).any() and "found_fine" in misled


def test_a_small_tensor_is_its_own_sample():
    found = measured_of(rank_rounds("found", wanted), [of("sorted", 15, 0)], share=0.3)
    assert "found_fine" not in found
    assert found["found_sampled"][:, -2:].tolist() == [[15, 15]] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_zeros_is_exact(kind):
    x = of(kind, 1000, 1)
    x[:, 17] = 1.0
    found = measured_of(rank_rounds("found", past_zeros, zeros=True), [x])
    expected = [row[row > 0].min().item() for row in magnitudes(x)]
    assert found["found"][:, 0].tolist() == expected


def test_the_rows_may_be_made_of_the_operands():
    x = of("normal", 1000, 2)
    found = measured_of(rank_rounds("found", wanted, doubled), [x], share=0.25)
    assert torch.equal(found["found"], 2 * measured_of(rank_rounds("found", wanted), [x], share=0.25)["found"])


def test_a_value_that_half_of_all_entries_share_is_listed_once():
    x = torch.randn(2, 50_000, generator=torch.Generator().manual_seed(0))
    x[:, ::2] = 0.75
    found = measured_of(rank_rounds("found", wanted), [x], share=0.6)
    assert (found["found"][:, 0] == 0.75).all()
    assert found["found_counted"].shape[1] < 25_000
