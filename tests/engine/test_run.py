"""The engine: the same bytes however the work is cut, in every execution, and nothing silently."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from merging.checkpoint.shards import open_checkpoint
from merging.checkpoint.sink import MemorySink
from merging.checkpoint.tensors import MemoryCheckpoint
from merging.engine import cuts, execute, merge_work
from merging.engine.events import Sealed, TensorDone
from merging.engine.run import run
from merging.errors import MergingError, OutputError, ResumeError
from merging.methods.apply import merge_tensor
from merging.methods.declare import all_methods, find_method
from merging.planning.plan import Job, Operand, Plan
from tests.engine import plans

SHAPES = {"embed": (33, 20), "layers.0.w": (20, 70), "layers.0.b": (70,), "scale": (), "none": (0, 5), "row": (1, 5000)}
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
    for module in (cuts, execute, merge_work):
        monkeypatch.setattr(module, "SPAN", 1024)
    monkeypatch.setattr(merge_work, "MEASURING_BLOCK", 256)
    monkeypatch.setattr(execute.spans_of, "__defaults__", (1024,))


def merged(plan: Plan, **options: int) -> dict[str, torch.Tensor]:
    """The plan's output in memory."""
    sink = MemorySink([job.spec for job in plan.jobs])
    for _ in run(plan, sink, allow_unused=True, **options):
        pass
    return sink.tensors()


def shipped() -> list[str]:
    return [name for name, method in all_methods().items() if not name.startswith("test_")]


def plan_for(name: str, dtype: torch.dtype = torch.float32) -> Plan:
    """A plan the method's declaration allows: as many models as it takes, its defaults, a middle for what has none."""
    method = find_method(name)
    _, most = method.needs.inputs
    alone = method.needs.sees == "models"
    count = 3 if most is None else most - 1 if alone else most
    values = {key: 0.3 for key in method.parameters if key not in method.defaults()}
    if "density" in method.parameters:
        values["density"] = 0.4
    shapes = {key: shape for key, shape in SHAPES.items() if name != "test_transposed_mean" or len(shape) == 2}
    return plans.plan_of(name, plans.models(shapes, count, dtype), **values)


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
        expected = merge_tensor(name, seen, base, tensor=job.spec.name, **job.parameters)
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
    shapes = {"qkv": (60, 20), "conv1d": (20, 60), "uneven": (50, 20)}
    plan = plans.plan_of("test_matrix", plans.models(shapes, 0))
    jobs = tuple(replace(job, role="attention.query_key_value") for job in plan.jobs)
    found = merged(replace(plan, jobs=jobs))
    stored = {key: plan.models[0].read(key).reshape(shape) for key, shape in shapes.items()}
    assert torch.equal(found["qkv"], torch.cat([part.flip(0, 1) for part in stored["qkv"].chunk(3)]))
    assert torch.equal(found["conv1d"], torch.cat([part.flip(0, 1) for part in stored["conv1d"].chunk(3, 1)], 1))
    assert torch.equal(found["uneven"], stored["uneven"].flip(0, 1))


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


def test_copies_keep_every_dtype_and_say_where_others_differ(tmp_path: Path) -> None:
    first = {
        "ids": torch.arange(5),
        "mask": torch.tensor([True, False]),
        "f8": torch.tensor([1.0, -2.0]).to(torch.float8_e4m3fn),
        "step": torch.tensor(7, dtype=torch.int32),
    }
    second = {**first, "step": torch.tensor(8, dtype=torch.int32)}
    held = (MemoryCheckpoint(first), MemoryCheckpoint(second))
    jobs = tuple(Job(spec, "copy", (Operand(0, name), Operand(1, name))) for name, spec in held[0].specs.items())
    plan = Plan({}, held, jobs, {}, None)
    for _ in run(plan, tmp_path / "out"):
        pass
    written = open_checkpoint(tmp_path / "out")
    for name, value in first.items():
        assert torch.equal(written.read(name).view(torch.uint8), value.reshape(-1).view(torch.uint8))
    ledger = (tmp_path / "out" / "merging-ledger.jsonl").read_text().splitlines()
    different = [line for line in ledger if '"same": false' in line]
    assert len(different) == 1 and '"step"' in different[0]


def test_entries_that_are_not_finite_are_counted_where_they_come_from_and_where_they_arrive(tmp_path: Path) -> None:
    made = plans.models({"w": (200,), "v": (3,)}, 2)
    broken = {name: made[2].read(name).clone() for name in ("w", "v")}
    broken["w"][5] = float("nan")
    made[2] = MemoryCheckpoint(broken, location="broken")
    plan = plans.plan_of("task_arithmetic", made)
    events = list(run(plan, tmp_path / "out"))
    assert {e.name: e.non_finite for e in events if isinstance(e, TensorDone)} == {"w": 1, "v": 0}
    assert '"non_finite": 1' in (tmp_path / "out" / "merging-ledger.jsonl").read_text()


def test_overflow_in_the_last_rounding_is_counted() -> None:
    made = [MemoryCheckpoint({"w": torch.full((4,), 6e4).half()}, location=f"m{i}") for i in range(2)]
    plan = plans.plan_of("linear", made, weight=1.0, normalize=False)
    events = list(run(plan, MemorySink([job.spec for job in plan.jobs]), allow_unused=True))
    assert [e.non_finite for e in events if isinstance(e, TensorDone)] == [4]


@pytest.mark.parametrize(
    ("weight", "same", "words"),
    [
        ((1.0, 0.0), False, "contributed nothing to any tensor: its weight is 0"),
        ((1.0, 1.0), True, "it does not differ from the model it is measured against"),
    ],
)
def test_an_input_without_effect_is_refused(weight: tuple[float, ...], same: bool, words: str, tmp_path: Path) -> None:
    made = plans.models({"w": (50, 4)}, 2)
    if same:
        made[2] = MemoryCheckpoint({"w": made[0].read("w").reshape(50, 4)}, location="twin of base")
    plan = plans.plan_of("task_arithmetic", made, weight=weight)
    with pytest.raises(MergingError, match=words):
        list(run(plan, tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*.safetensors"))
    assert isinstance(list(run(plan, tmp_path / "out", allow_unused=True))[-1], Sealed)


def test_an_output_that_is_one_of_the_inputs_is_refused(tmp_path: Path) -> None:
    made = plans.models({"w": (50, 4)}, 1)
    plan = plans.plan_of("slerp", made, t=1.0)
    with pytest.raises(MergingError, match="equals its input tuned0 in every tensor"):
        list(run(plan, tmp_path / "out"))


def test_a_folder_with_anything_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match="is not empty"):
        list(run(plan_for("linear"), tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_overwriting_replaces_an_earlier_merge_and_nothing_else(tmp_path: Path) -> None:
    many = replace(plan_for("linear"), shard_bytes=3000)
    list(run(many, tmp_path))
    (tmp_path / "mine.txt").write_text("precious")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    list(run(plan_for("ties"), tmp_path, overwrite=True))
    assert [path.name for path in tmp_path.glob("*.safetensors*")] == ["model.safetensors"]
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_an_unfinished_merge_of_another_recipe_is_not_touched(tmp_path: Path) -> None:
    events = run(plan_for("linear"), tmp_path)
    next(events)
    events.close()  # type: ignore[attr-defined]
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(ResumeError, match="another recipe"):
        list(run(plan_for("ties"), tmp_path))
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_two_runs_cannot_fill_one_folder(tmp_path: Path) -> None:
    first = run(plan_for("linear"), tmp_path)
    next(first)
    with pytest.raises(OutputError, match="another run is writing"):
        list(run(plan_for("linear"), tmp_path))
    assert isinstance(list(first)[-1], Sealed)


def test_a_resumed_run_trusts_bytes_not_the_journal(tmp_path: Path) -> None:
    plan = plan_for("ties")
    events = run(plan, tmp_path / "out")
    for event in events:
        if isinstance(event, TensorDone):
            break
    events.close()  # type: ignore[attr-defined]
    for path in (tmp_path / "out").glob("*.partial"):
        held = bytearray(path.read_bytes())
        held[-64:] = bytes(64)
        path.write_bytes(held)
    list(run(plan, tmp_path / "out"))
    list(run(plan, tmp_path / "fresh"))
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        tmp_path / "fresh" / "model.safetensors"
    ).read_bytes()


def test_an_error_in_one_tensor_stops_the_run_and_names_the_cause(tmp_path: Path) -> None:
    plan = plan_for("linear")
    plan.models[1]._tensors.pop("scale")  # type: ignore[attr-defined]
    with pytest.raises(KeyError, match="scale"):
        list(run(plan, tmp_path / "out"))


def test_shard_size_changes_files_and_no_tensor(tmp_path: Path) -> None:
    plan = plan_for("breadcrumbs")
    list(run(plan, tmp_path / "one"))
    list(run(replace(plan, shard_bytes=3000), tmp_path / "many"))
    one, many = open_checkpoint(tmp_path / "one"), open_checkpoint(tmp_path / "many")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    for name in one.specs:
        assert torch.equal(one.read(name), many.read(name))


def test_silent_refusals_name_every_model_at_once() -> None:
    made = plans.models({"w": (8, 8)}, 3)
    plan = plans.plan_of("task_arithmetic", made, weight=(1.0, 0.0, 0.0))
    with pytest.raises(MergingError) as caught:
        list(run(plan, MemorySink([job.spec for job in plan.jobs])))
    assert "tuned1" in str(caught.value) and "tuned2" in str(caught.value)
    assert len(caught.value.problems) == 3  # type: ignore[attr-defined]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an accelerator")
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no cuda here"):
        list(run(replace(plan_for("linear"), device="cuda"), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


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
