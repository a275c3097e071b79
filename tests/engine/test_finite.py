"""Entries that are not finite stop methods that measure the whole model, before one of them spoils all."""

from __future__ import annotations

import pytest
import torch

from merging.checkpoint.sink import MemorySink
from merging.checkpoint.tensors import MemoryCheckpoint
from merging.engine.run import run
from merging.errors import CheckpointError, MergingError, Problems
from merging.methods.declare import all_methods
from merging.planning.plan import Plan
from tests.engine.plans import merged, models, plan_of

SHAPES = {"v": (300,), "w": (40, 30), "x": (40, 30)}
WHOLE = [name for name, method in all_methods().items() if method.needs.scope == "model"]


class Untouched(MemorySink):
    """A sink that nothing may be written to."""

    def write(self, name: str, start: int, block: torch.Tensor) -> None:  # noqa: ARG002
        raise AssertionError(f"{name} was written")


def broken(position: int, value: float, *names: str) -> list[MemoryCheckpoint]:
    """A base model and three fine-tunes; one of the four has an entry that is not finite in each of these tensors."""
    made = models(SHAPES, 3)
    held = {name: made[position].read(name).reshape(shape) for name, shape in SHAPES.items()}
    for name in names:
        held[name].view(-1)[7] = value
    made[position] = MemoryCheckpoint(held, location=made[position].location)
    return made


def problems(plan: Plan) -> list[MergingError]:
    """What a run that writes nothing was stopped by."""
    with pytest.raises(MergingError) as caught:
        list(run(plan, Untouched([job.spec for job in plan.jobs])))
    return list(caught.value.problems) if isinstance(caught.value, Problems) else [caught.value]


@pytest.mark.parametrize("name", ["metagpt", "opcm", "pcb"])
def test_the_model_and_its_first_such_tensor_are_named_before_anything_is_written(name: str) -> None:
    (problem,) = problems(plan_of(name, broken(2, float("nan"), "w", "x")))
    assert isinstance(problem, CheckpointError)
    assert problem.what.startswith("tuned1 has entries that are not finite")
    assert problem.where == "1 of 1,200 in w; it is one of 2 such tensors"
    assert problem.must_be and problem.fix


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_base_model_is_named_alone(value: float) -> None:
    (problem,) = problems(plan_of("metagpt", broken(0, value, "v")))
    assert problem.what.startswith("base has entries")
    assert problem.where == "1 of 300 in v"


@pytest.mark.parametrize("name", WHOLE)
def test_one_entry_that_is_not_finite_stops_a_merge_or_spoils_no_other_tensor(name: str) -> None:
    plan = plan_of(name, broken(1, float("nan"), "w"), **({"task": 1} if name == "tall_masks" else {}))
    try:
        found = merged(plan)
    except CheckpointError as problem:
        assert problem.what.startswith("tuned0 has entries that are not finite")
        return
    assert all(x.isfinite().all() for key, x in found.items() if key != "w")


@pytest.mark.parametrize("name", WHOLE)
def test_good_models_are_merged_whatever_the_sums_spell_as_nan(name: str) -> None:
    found = merged(plan_of(name, models({"v": (5,)}, 2), **({"task": 1} if name == "tall_masks" else {})))
    assert found["v"].isfinite().all()


def test_differences_too_large_for_float32_are_no_fault_of_a_model() -> None:
    made = broken(1, 3e38, "w")
    held = {name: made[0].read(name).reshape(shape) for name, shape in SHAPES.items()}
    held["w"].view(-1)[7] = -3e38
    made[0] = MemoryCheckpoint(held, location="base")
    assert len(merged(plan_of("metagpt", made))) == len(SHAPES)
