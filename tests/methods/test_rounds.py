from __future__ import annotations

import torch

from merging.algebra.windows import condense
from merging.methods import rounds
from merging.methods.rounds import Round, Sum, is_needed, is_planned, is_sampled, only_if, plain, reads


def total(x: torch.Tensor) -> torch.Tensor:
    return x.double().sum()


def pairs(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x.long(), torch.ones_like(x, dtype=torch.int64)])


def ratio(*, measured: dict[str, torch.Tensor]) -> torch.Tensor:
    return measured["total"] / 2


def test_a_round_is_called_and_named_as_its_rule() -> None:
    step = Round(total, sampled=True)
    assert step.__name__ == "total"
    assert step(torch.ones(3)) == 3
    assert reads(step) and is_sampled(step) and plain(only_if("density", step)) is total
    assert not reads(ratio)


def test_a_round_that_sums_call_for_is_not_planned() -> None:
    step = Round(total, when=lambda measured: bool(measured["total"] > 1))
    assert not is_planned(step) and is_planned(Round(total)) and is_planned(total)
    assert is_needed(step, {"total": torch.tensor(2.0)}) and not is_needed(step, {"total": torch.tensor(0.0)})


def test_what_was_added_first_is_not_changed() -> None:
    first, held = torch.ones(2), Sum(total)
    held.add(first)
    held.add(torch.ones(2))
    assert held.total().tolist() == [2, 2] and first.tolist() == [1, 1]


def test_lists_stand_side_by_side_until_they_are_long(monkeypatch) -> None:
    monkeypatch.setattr(rounds, "LISTED", 20)
    held = Sum(Round(pairs, condense=condense))
    for _ in range(50):
        held.add(pairs(torch.tensor([3.0, 1.0, 3.0])))
        assert held.total().numel() <= 20 + 6
    assert held.settled().tolist() == [[1, 3], [50, 100]]
