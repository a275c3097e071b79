"""Measuring rounds over a sample, and those that follow where it misled: the same bytes however the work is cut."""

from __future__ import annotations

import pytest
import torch

from merging.algebra import windows
from merging.checkpoint.tensors import MemoryCheckpoint
from merging.engine import cuts, execute, measuring, merge_work
from merging.engine.cuts import grouped
from merging.methods.apply import merge_tensor
from merging.methods.declare import find_method
from tests.engine.plans import merged, plan_of


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks, spans and measuring blocks so small that these tensors have many."""
    for module in (cuts, execute, measuring, merge_work):
        monkeypatch.setattr(module, "SPAN", 1024)
    monkeypatch.setattr(cuts, "MEASURING_BLOCK", 256)
    monkeypatch.setattr(execute.spans_of, "__defaults__", (1024,))
    monkeypatch.setattr(windows, "CHUNK", 16)
    monkeypatch.setattr(windows, "REGION", 128)
    monkeypatch.setattr(windows, "REGIONS", 8)


def _models(kind: str, shapes: dict[str, tuple[int, ...]]) -> list[MemoryCheckpoint]:
    generator = torch.Generator().manual_seed(0)
    base = {name: torch.randn(shape, generator=generator).bfloat16() for name, shape in shapes.items()}
    made = [MemoryCheckpoint(base, location="base")]
    for i in range(3):
        tuned = {}
        for name, held in base.items():
            change = torch.randn(held.shape, generator=generator) * 0.01
            if kind == "hidden":
                for start, stop in windows.sampled_ranges(held.numel()):
                    change.view(-1)[start:stop] *= 0.01
            tuned[name] = (held.float() + change).bfloat16()
        made.append(MemoryCheckpoint(tuned, location=f"tuned{i}"))
    return made


METHODS = ("ties", "ties_global", "breadcrumbs", "sce", "pcb", "trust_region", "grafting")
VALUES = {"density": 0.3, "select_topk": 0.3}


@pytest.mark.parametrize("kind", ["plain", "hidden"])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.usefixtures("small")
def test_samples_and_what_they_miss_change_no_bit(name: str, kind: str) -> None:
    values = {key: value for key, value in VALUES.items() if key in find_method(name).parameters}
    made = _models(kind, {"w": (60, 90), "v": (5000,)})
    plan = plan_of(name, made, **values)
    expected = merged(plan, workers=1, block=1 << 16)
    for workers, block in ((1, 128), (3, 384)):
        found = merged(plan, workers=workers, block=block)
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    if find_method(name).needs.scope == "tensor":
        base, *tuned = (model.read("w").reshape(60, 90) for model in made)
        assert torch.equal(merge_tensor(name, tuned, base, tensor="w", **values), expected["w"])


@pytest.mark.usefixtures("small")
def test_what_a_sample_misses_is_counted_and_what_it_holds_is_not() -> None:
    moved = {}
    for kind in ("plain", "hidden"):
        plan = plan_of("ties", _models(kind, {"v": (40_000,)}), density=0.3)
        read = []
        models = [_Counting(model, read) for model in plan.models]
        merged(plan.__class__(plan.recipe, tuple(models), plan.jobs, {}, None))
        moved[kind] = sum(read) / (4 * 40_000)
    assert moved["plain"] == pytest.approx(2 + 1 / 8, abs=0.01)
    assert moved["hidden"] == pytest.approx(4 + 1 / 8, abs=0.01)


class _Counting(MemoryCheckpoint):
    """A checkpoint that writes down how many entries are read of it."""

    def __init__(self, held: MemoryCheckpoint, read: list[int]):
        super().__init__({name: held.read(name) for name in held.specs}, location=held.location)
        self._read = read

    def read(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Entries, counted."""
        found = super().read(name, start, stop)
        self._read.append(found.numel())
        return found


def test_ranges_are_grouped_in_order_and_none_is_lost() -> None:
    assert list(grouped([(0, 0)], 4)) == [[(0, 0)]]
    assert list(grouped([(0, 3), (3, 6), (8, 9)], 4)) == [[(0, 3)], [(3, 6), (8, 9)]]
    assert list(grouped([(0, 9)], 4)) == [[(0, 4)], [(4, 8)], [(8, 9)]]
