from __future__ import annotations

import pytest
import torch
from torch import Tensor

from merging.checkpoint.tensors import Checkpoint, MemoryCheckpoint, TensorSpec
from merging.methods.declare import find_method, merge_method
from merging.methods.parameters import PerModel
from merging.planning.choose import Choice, choose, fitting_workers, memory_problems, total, usual_workers
from merging.planning.plan import Job, Operand
from tests.engine.plans import plan_of, temporary_methods

MiB = 1 << 20
SHAPE = (300, 400)
NBYTES = 300 * 400 * 2


@pytest.fixture(autouse=True)
def declared() -> object:
    """Methods declared in a test are gone after it."""
    with temporary_methods():
        yield


def _models(count: int, shape: tuple[int, ...] = SHAPE) -> list[Checkpoint]:
    return [MemoryCheckpoint({"w": torch.zeros(shape, dtype=torch.bfloat16)}, {}, str(i)) for i in range(count)]


def _choice(method: str, count: int = 3, shape: tuple[int, ...] = SHAPE, **values: object) -> Choice:
    return choose(_job(method, count, shape, **values), _models(count, shape))


def _job(method: str, count: int, shape: tuple[int, ...] = SHAPE, **values: object) -> Job:
    needs = find_method(method).needs
    everyone = tuple(Operand(i, "w") for i in range(count))
    apart = needs.sees == "task_vectors"
    spec = TensorSpec("w", shape, "BF16")
    return Job(spec, "merge", everyone[1:] if apart else everyone, everyone[0] if apart else None, method, values)


def _declare(reach: str, **needs: object) -> None:
    @merge_method(f"test_{reach}", paper="none", sees="task_vectors", reach=reach, **needs)
    def method(x: Tensor, *, weight: PerModel = 1.0) -> Tensor:
        """Sum.

        weight: of each
        """
        return (weight * x).sum(0)


def test_a_span_without_measuring_is_one_linear_pass() -> None:
    choice = _choice("linear", weight=1.0)
    assert (choice.kind, choice.rounds, choice.label) == ("linear", (), "linear pass")
    assert (choice.read_bytes, choice.written_bytes, choice.spooled_bytes) == (3 * NBYTES, NBYTES, 0)


def test_a_span_that_measures_reads_twice() -> None:
    choice = _choice("slerp", count=2, t=0.5)
    assert (choice.kind, choice.label, choice.read_bytes) == ("linear", "gram + linear pass", 4 * NBYTES)


def test_rounds_that_a_flag_calls_for_are_counted_only_then() -> None:
    plain, rescaled = _choice("ties", density=0.5), _choice("ties", density=0.5, rescale=True)
    assert plain.kind == rescaled.kind == "blocks"
    assert len(rescaled.rounds) == len(plain.rounds) + 1
    assert rescaled.read_bytes - plain.read_bytes == 3 * NBYTES


def test_a_sample_is_a_small_part_of_a_reading() -> None:
    shape = (4096, 4096)
    choice = _choice("ties", shape=shape, density=0.5)
    once = 3 * 4096 * 4096 * 2
    assert choice.rounds == ("thresholds_sampled", "thresholds_counted")
    assert choice.round_bytes == (once // 32, once)
    assert choice.read_bytes == 2 * once + once // 32
    assert _choice("ties", density=0.5).round_bytes == (3 * NBYTES, 3 * NBYTES)


def test_copies_read_what_they_copy_and_what_they_compare() -> None:
    job = Job(TensorSpec("w", SHAPE, "BF16"), "copy", (Operand(0, "w"), Operand(1, "w")))
    assert choose(job, _models(2)).read_bytes == 2 * NBYTES


@pytest.mark.parametrize(("reach", "kind"), [("element", "blocks"), ("row", "rows"), ("tensor", "whole tensor")])
def test_the_reach_decides_the_execution(reach: str, kind: str) -> None:
    _declare(reach)
    assert _choice(f"test_{reach}").kind == kind


def test_a_sequential_method_is_a_fold_whose_memory_does_not_grow_with_the_models() -> None:
    _declare("element", order="sequential")
    few, many = _choice("test_element", count=3), _choice("test_element", count=9)
    assert few.kind == many.kind == "fold" and many.read_bytes == 3 * few.read_bytes
    _declare_whole_fold()
    few, many = (_choice("test_whole_fold", count=count, shape=(2000, 2000)) for count in (3, 9))
    assert few.held_bytes == many.held_bytes > 0


def _declare_whole_fold() -> None:
    @merge_method("test_whole_fold", paper="none", sees="task_vectors", reach="tensor", order="sequential")
    def fold(state: Tensor | None, x: Tensor) -> Tensor:
        """Sum."""
        return x if state is None else state + x


def test_memory_of_elementwise_methods_does_not_grow_with_the_tensor() -> None:
    small, large = _choice("ties", shape=(100, 100), density=0.5), _choice("ties", shape=(4000, 1000), density=0.5)
    assert small.buffer_bytes == large.buffer_bytes < 16 * MiB
    assert small.held_bytes == large.held_bytes == 0


def test_memory_of_row_methods_grows_with_the_row_only() -> None:
    _declare("row")
    few, many = _choice("test_row", shape=(2, 300_000)), _choice("test_row", shape=(40, 300_000))
    assert few.held_bytes == many.held_bytes == 6 * 1_200_000
    assert _choice("test_row", shape=(4000, 1000)).held_bytes == 0


def test_buffers_count_once_per_worker_and_held_tensors_within_the_memory() -> None:
    _declare("tensor")
    choice = _choice("test_tensor", shape=(1000, 1000))
    assert choice.held_bytes == 6 * 4_000_000
    for workers, held in ((1, 1), (2, 2), (8, 3)):
        cost = total([choice], 140_000_000, workers)
        assert cost.memory_bytes == workers * choice.buffer_bytes + held * choice.held_bytes <= 140_000_000


def test_fewer_workers_fit_a_small_memory() -> None:
    choice = _choice("ties", density=0.5)
    assert fitting_workers([choice], 100 << 30) == usual_workers()
    assert fitting_workers([choice], choice.buffer_bytes) == 1


def test_a_global_finish_spools_float32_and_reads_it_again() -> None:
    _declare("element", finish=(lambda merged: merged, lambda merged, _: merged))
    choice = _choice("test_element")
    assert choice.spooled_bytes == 2 * NBYTES
    assert choice.read_bytes == 3 * NBYTES + choice.spooled_bytes + NBYTES


def test_the_total_adds_bytes_and_takes_the_largest_memory() -> None:
    made = plan_of("linear", _models(3), weight=1.0)  # type: ignore[arg-type]
    cost = total([choose(job, made.models) for job in made.jobs], 1 << 30, workers=2)
    assert (cost.read_bytes, cost.written_bytes) == (3 * NBYTES, NBYTES)
    assert cost.memory_bytes == 2 * _choice("linear", weight=1.0).buffer_bytes


def test_rows_too_long_for_the_memory_are_a_problem() -> None:
    _declare("row")
    shape = (2, 1_000_000)
    (found,) = memory_problems([_job("test_row", 3, shape)], _models(3, shape), 16 * MiB)
    assert "test_row needs whole rows in memory" in found.what
    assert memory_problems([_job("ties", 3, shape)], _models(3, shape), 16 * MiB) == []


def test_buffers_too_large_for_the_memory_are_a_problem() -> None:
    (found,) = memory_problems([_job("ties", 3, density=0.5)], _models(3), MiB)
    assert found.what == "ties needs buffers in memory: 7,340,032 bytes for w"
    assert found.fix == "pass --memory 7MiB"
