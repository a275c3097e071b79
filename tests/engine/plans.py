"""Plans over checkpoints in memory, made without a recipe, and methods that exist only in tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from merging.algebra.randomness import Place, keep_random
from merging.checkpoint.sink import MemorySink
from merging.checkpoint.tensors import MemoryCheckpoint, TensorSpec, promote
from merging.engine.run import run
from merging.methods import declare
from merging.methods.declare import merge_method
from merging.methods.parameters import PerModel
from merging.planning.plan import Job, Operand, Plan

SHAPES = {"embed": (33, 20), "layers.0.w": (20, 70), "layers.0.b": (70,), "scale": (), "none": (0, 5), "row": (1, 5000)}


def models(
    shapes: Mapping[str, tuple[int, ...]], count: int, dtype: torch.dtype = torch.float32, seed: int = 0
) -> list[MemoryCheckpoint]:
    """A base model and `count` fine-tunes with small random task vectors."""
    generator = torch.Generator().manual_seed(seed)
    base = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    made = [MemoryCheckpoint({name: x.to(dtype) for name, x in base.items()}, location="base")]
    for i in range(count):
        tuned = {name: (x + 0.1 * torch.randn(x.shape, generator=generator)).to(dtype) for name, x in base.items()}
        made.append(MemoryCheckpoint(tuned, location=f"tuned{i}"))
    return made


def plan_of(method: str, checkpoints: list[MemoryCheckpoint], dtype: str | None = None, **values: Any) -> Plan:
    """Every tensor of the first model (the base) merged by `method`; parameters as for a recipe."""
    declared = declare.find_method(method)
    sees_tasks = declared.needs.sees == "task_vectors"
    statistics = [_statistics(declared, checkpoints[0], i) for i in range(len(checkpoints) - sees_tasks)]
    jobs = []
    for name, spec in checkpoints[0].specs.items():
        everyone = [Operand(i, name) for i in range(len(checkpoints))]
        stored = dtype or promote(model.specs[name].dtype for model in checkpoints)
        jobs.append(
            Job(
                TensorSpec(name, spec.shape, stored),
                "merge",
                tuple(everyone[1:] if sees_tasks else everyone),
                everyone[0] if sees_tasks else None,
                method,
                values,
                companions={
                    key: tuple(Operand(len(checkpoints) + i, name) for i in range(len(statistics)))
                    for key in declared.needs.companions
                    if name in statistics[0].specs
                },
            )
        )
    held = (*checkpoints, *(each for each in statistics if declared.needs.companions))
    return Plan({"merge_method": method}, held, tuple(jobs), {}, None)


def _statistics(method: declare.Method, model: MemoryCheckpoint, seed: int) -> MemoryCheckpoint:
    """What a method with a companion may ask for: a positive number per entry, or inner products of inputs."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, spec in model.specs.items():
        if method.reach(spec.shape) == "matrix":
            inputs = torch.randn(3 * spec.shape[-1], spec.shape[-1], generator=generator)
            made[name] = inputs.T @ inputs
        elif method.reach(spec.shape) != "span":
            made[name] = torch.rand(spec.shape, generator=generator) + 0.5
    return MemoryCheckpoint(made, location=f"statistics{seed}")


def merged(plan: Plan, **options: int) -> dict[str, torch.Tensor]:
    """The plan's output in memory."""
    sink = MemorySink([job.spec for job in plan.jobs])
    for _ in run(plan, sink, allow_unused=True, **options):
        pass
    return sink.tensors()


def plan_for(name: str, dtype: torch.dtype = torch.float32) -> Plan:
    """A plan the method's declaration allows: as many models as it takes, its defaults, a middle for what has none."""
    method = declare.find_method(name)
    _, most = method.needs.inputs
    alone = method.needs.sees == "models"
    count = 3 if most is None else most - 1 if alone else most
    values = {key: 0.3 for key in method.parameters if key not in method.defaults()}
    if "density" in method.parameters:
        values["density"] = 0.4
    shapes = {key: shape for key, shape in SHAPES.items() if name != "test_transposed_mean" or len(shape) == 2}
    return plan_of(name, models(shapes, count, dtype), **values)


@contextmanager
def temporary_methods() -> Iterator[None]:
    """Methods declared inside are forgotten afterwards, so that the laws of real methods never meet them."""
    declare.all_methods()
    methods, names = dict(declare._METHODS), dict(declare._NAMES)
    try:
        yield
    finally:
        for registry, kept in ((declare._METHODS, methods), (declare._NAMES, names)):
            registry.clear()
            registry.update(kept)


def declare_test_methods() -> None:
    """One small method for each execution that no shipped method may use yet."""

    def _tally(merged: torch.Tensor) -> torch.Tensor:
        return merged.double().square().sum().reshape(1)

    def _unit_length(merged: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        return merged / total.sqrt().float()

    @merge_method("test_fold", paper="none", sees="task_vectors", reach="element", order="sequential")
    def fold(state: torch.Tensor | None, x: torch.Tensor, *, weight: PerModel = 1.0) -> torch.Tensor:
        """Sum in turn, halving what is there.

        weight: of each
        """
        return x * weight if state is None else state * 0.5 + x * weight

    @merge_method(
        "test_fold_whole",
        paper="none",
        sees="task_vectors",
        reach="tensor",
        order="sequential",
        finish=(_tally, _unit_length),
    )
    def fold_whole(state: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
        """Sum in turn."""
        return x if state is None else state + x

    @merge_method("test_unit", paper="none", sees="task_vectors", reach="element", finish=(_tally, _unit_length))
    def unit(task_vectors: torch.Tensor) -> torch.Tensor:
        """The first task vector over the length of the whole model's."""
        return task_vectors[0].clone()

    @merge_method("test_rows", paper="none", sees="models", reach="row", base="unused")
    def rows(x: torch.Tensor) -> torch.Tensor:
        """Every entry becomes the largest of its row in the first model."""
        return x[0].amax(-1, keepdim=True).expand_as(x[0]).contiguous()

    def _weights(*, weight: PerModel = 1.0) -> torch.Tensor:
        return weight

    def _restore(merged: torch.Tensor, total: torch.Tensor, *, measured: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return merged * (measured["entry_sums"][0, 1] / total.sqrt()).float()

    @merge_method(
        "test_matrix_fold",
        paper="none",
        sees="task_vectors",
        reach="matrix",
        order="sequential",
        elsewhere=_weights,
        measure=(entry_sums,),
        scope="model",
        finish=(_tally, _restore),
    )
    def matrix_fold(state: torch.Tensor | None, x: torch.Tensor, *, weight: PerModel = 1.0) -> torch.Tensor:
        """Every matrix minus the mean of its rows, summed in turn.

        weight: of each
        """
        seen = (x - x.mean(0, keepdim=True)) * weight
        return seen if state is None else state + seen

    @merge_method("test_matrix", paper="none", sees="models", reach="matrix", base="unused", elsewhere=_weights)
    def matrix(x: torch.Tensor) -> torch.Tensor:
        """The first matrix in reverse.

        weight: of each, for what is no matrix
        """
        return x[0].flip(0, 1)

    @merge_method("test_random", paper="none", sees="task_vectors", reach="element")
    def random_share(task_vectors: torch.Tensor, *, random: Place) -> torch.Tensor:
        """A random half of the first task vector."""
        return keep_random(task_vectors[:1], random, torch.tensor([0.5]))[0]

    @merge_method("test_transposed_mean", paper="none", sees="models", reach="tensor", base="unused")
    def transposed_mean(x: torch.Tensor) -> torch.Tensor:
        """Mean of the models, minus the mean of its columns."""
        mean = (x[0] + x[1]) / 2
        return mean - mean.mean(0, keepdim=True)

    @merge_method(
        "test_centred", paper="none", sees="task_vectors", reach="element", measure=(entry_sums,), scope="model"
    )
    def centred(task_vectors: torch.Tensor, *, measured: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The first task vector minus its mean over the whole model."""
        sums = measured["entry_sums"]
        return task_vectors[0] - (sums[0, 0] / sums[0, 1]).float()


def entry_sums(x: torch.Tensor) -> torch.Tensor:
    """Sum and number of entries per model, float64."""
    return torch.stack([x.double().sum(1), torch.full((len(x),), float(x.shape[1]), dtype=torch.float64)], 1)
