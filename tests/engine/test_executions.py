"""Every execution: the same bytes however the work is cut, and what the method's function gives in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from merging.checkpoint.tensors import MemoryCheckpoint
from merging.engine import cuts, execute, measuring, merge_work
from merging.methods.apply import merge_tensor
from merging.methods.declare import all_methods, find_method
from merging.methods.layout import Layout
from tests.engine import plans
from tests.engine.plans import SHAPES, merged, plan_for

EXECUTIONS = [
    "test_fold",
    "test_fold_whole",
    "test_matrix_fold",
    "test_matrix",
    "test_random",
    "test_unit",
    "test_rows",
    "test_transposed_mean",
    "test_centred",
]


@pytest.fixture(autouse=True)
def _methods() -> Iterator[None]:
    with plans.temporary_methods():
        plans.declare_test_methods()
        yield


@pytest.fixture
def small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans and measuring blocks so small that these tensors have many."""
    for module in (cuts, execute, measuring, merge_work):
        monkeypatch.setattr(module, "SPAN", 1024)
    monkeypatch.setattr(cuts, "MEASURING_BLOCK", 256)
    monkeypatch.setattr(execute.spans_of, "__defaults__", (1024,))


def shipped() -> list[str]:
    return [name for name, method in all_methods().items() if not name.startswith("test_")]


@pytest.mark.parametrize("name", [*shipped(), *EXECUTIONS])
@pytest.mark.usefixtures("small_spans")
def test_block_size_and_workers_change_no_bit(name: str) -> None:
    plan = plan_for(name)
    expected = merged(plan, workers=1, block=1 << 16)
    for workers, block in ((1, 128), (2, 256), (4, 384), (3, 1024)):
        found = merged(plan, workers=workers, block=block)
        for key, value in expected.items():
            assert torch.equal(found[key], value), (key, workers, block)


@pytest.mark.parametrize("name", shipped())
def test_the_engine_gives_what_the_function_gives_in_memory(name: str) -> None:
    plan = plan_for(name)
    if find_method(name).needs.scope == "model":
        plan = replace(plan, jobs=plan.jobs[:1])
    found = merged(plan)
    for job in plan.jobs:
        if not job.spec.entries:
            continue
        seen = [plan.models[each.model].read(each.name).reshape(job.spec.shape) for each in job.operands]
        base = plan.models[job.base.model].read(job.base.name).reshape(job.spec.shape) if job.base else None
        beside = {
            key: torch.stack([plan.models[each.model].read(each.name) for each in group]).reshape(len(seen), *shape)
            for key, group in job.companions.items()
            for shape in [plan.models[group[0].model].specs[group[0].name].shape]
        }
        expected = merge_tensor(name, seen, base, tensor=job.spec.name, companions=beside, **job.parameters)
        torch.testing.assert_close(found[job.spec.name], expected, rtol=1e-6, atol=1e-6)


def test_a_fold_sees_operands_in_order_and_with_their_weights() -> None:
    plan = plans.plan_of("test_fold", plans.models(SHAPES, 3), weight=(1.0, 2.0, 3.0))
    base, *tuned = (model.read("layers.0.b") for model in plan.models)
    expected = ((tuned[0] - base) * 0.5 + (tuned[1] - base) * 2) * 0.5 + (tuned[2] - base) * 3 + base
    torch.testing.assert_close(merged(plan)["layers.0.b"], expected)


def test_a_fold_over_matrices_keeps_other_tensors_a_weighted_sum_and_finishes_over_all() -> None:
    plan = plans.plan_of("test_matrix_fold", plans.models(SHAPES, 2), weight=(0.5, 2.0))
    found = merged(plan)
    base, *tuned = ({key: model.read(key).reshape(SHAPES[key]).double() for key in SHAPES} for model in plan.models)
    tasks = [{key: model[key] - base[key] for key in SHAPES} for model in tuned]
    total = {}
    for key, shape in SHAPES.items():
        is_matrix = len(shape) == 2 and min(shape) > 1
        total[key] = sum(
            w * (t[key] - t[key].mean(0) if is_matrix else t[key]) for w, t in zip((0.5, 2.0), tasks, strict=True)
        )
    entries = sum(x.numel() for x in total.values())
    length = sum(float(x.square().sum()) for x in total.values()) ** 0.5
    for key in SHAPES:
        torch.testing.assert_close(found[key].double(), base[key] + total[key] * entries / length, rtol=1e-4, atol=1e-3)


def test_fused_projections_are_three_matrices() -> None:
    shapes = {"qkv": (60, 20), "conv1d": (20, 60), "uneven": (50, 20), "heads": (60, 20), "experts": (3, 20, 10)}
    layouts = {"conv1d": "turned parts=3", "heads": "parts=3 heads=5", "experts": "each parts=2"}
    plan = plans.plan_of("test_matrix", plans.models(shapes, 0))
    jobs = [replace(job, layout=Layout.read(layouts.get(job.spec.name, "parts=3"))) for job in plan.jobs]
    found = merged(replace(plan, jobs=tuple(jobs)))
    stored = {key: plan.models[0].read(key).reshape(shape) for key, shape in shapes.items()}
    assert torch.equal(found["qkv"], torch.cat([part.flip(0, 1) for part in stored["qkv"].chunk(3)]))
    assert torch.equal(found["conv1d"], torch.cat([part.flip(0, 1) for part in stored["conv1d"].chunk(3, 1)], 1))
    assert torch.equal(found["uneven"], stored["uneven"].flip(0, 1))
    reversed_parts = stored["heads"].view(5, 3, 4, 20).flip(0, 2, 3)
    assert torch.equal(found["heads"], reversed_parts.reshape(60, 20))
    assert torch.equal(found["experts"], stored["experts"].view(3, 2, 10, 10).flip(2, 3).reshape(3, 20, 10))


@pytest.mark.parametrize("name", [name for name, method in all_methods().items() if method.needs.reach == "matrix"])
def test_a_matrix_stored_the_other_way_is_merged_like_itself(name: str) -> None:
    """Many methods tell outputs from inputs; what they are handed must not depend on the file."""
    plan = plans.plan_of(name, plans.models({"w": (6, 4)}, 1 if name == "bitdelta" else 3))
    (job,) = plan.jobs
    expected = merged(plan)["w"]
    turned = [
        MemoryCheckpoint({"w": model.read("w").view(6, 4).T.contiguous()}, location=model.location)
        for model in plan.models[: len(plan.models) - len(job.companions.get("gram_inputs", ()))]
    ]
    spec, layout = replace(job.spec, shape=(4, 6)), Layout(turned=True)
    other = replace(plan, models=(*turned, *plan.models[len(turned) :]), jobs=(replace(job, spec=spec, layout=layout),))
    torch.testing.assert_close(merged(other)["w"].T, expected)


@pytest.mark.parametrize("name", ["test_unit", "test_fold_whole"])
def test_a_global_finish_uses_the_sum_over_all_tensors(name: str) -> None:
    plan = plans.plan_of(name, plans.models(SHAPES, 2))
    found = merged(plan)
    square = sum(
        float((found[key].double() - plan.models[0].read(key).reshape(shape).double()).square().sum())
        for key, shape in SHAPES.items()
    )
    assert square == pytest.approx(1.0, rel=1e-5)


def test_whole_model_rounds_see_every_counted_tensor_once() -> None:
    plan = plans.plan_of("test_centred", plans.models(SHAPES, 1))
    tied = [replace(job, counted=job.spec.name != "row") for job in plan.jobs]
    found = merged(replace(plan, jobs=tuple(tied)))
    base, tuned = plan.models
    counted = [name for name in SHAPES if name != "row"]
    task = torch.cat([tuned.read(name) - base.read(name) for name in counted]).double()
    expected = tuned.read("row") - base.read("row") - task.mean().float() + base.read("row")
    torch.testing.assert_close(found["row"].flatten(), expected)


def test_a_bfloat16_merge_is_the_float32_merge_rounded_once() -> None:
    plan = plan_for("ties", torch.bfloat16)
    exact = merged(replace(plan, jobs=tuple(replace(j, spec=replace(j.spec, dtype="F32")) for j in plan.jobs)))
    for key, value in merged(plan).items():
        assert torch.equal(value, exact[key].bfloat16())


def test_an_entry_nobody_changed_keeps_its_bits() -> None:
    base = {"w": torch.randn(1000).bfloat16()}
    tuned = {"w": base["w"].clone()}
    tuned["w"][:10] += 1
    made = [MemoryCheckpoint(base), *(MemoryCheckpoint(tuned, location=f"t{i}") for i in range(2))]
    found = merged(plans.plan_of("task_arithmetic", made, weight=0.3))["w"]
    assert torch.equal(found[10:], base["w"][10:])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("name", ["linear", "slerp", "ties", "breadcrumbs"])
def test_an_accelerator_keeps_the_same_entries_and_agrees_to_rounding(name: str) -> None:
    plan = plan_for(name)
    expected, found = merged(plan), merged(replace(plan, device="cuda"))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-6)
        assert torch.equal(
            found[key] == plan.models[0].read(key).reshape(value.shape),
            value == plan.models[0].read(key).reshape(value.shape),
        )
