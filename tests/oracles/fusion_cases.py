"""Random merges of single tensors, each as FusionBench is told to make it and as we are.

Entries are multiples of 2^-20 below 4, so that task vectors are the same numbers in float32 and in float64. Where the
two count entries in different ways, the share handed to us is the one that keeps as many.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

import merging
from tests.tiny_shapes import normal

GRID = 2.0**20
NAMES = {1: "layer.bias", 2: "layer.weight", 4: "layer.kernel"}


@dataclass(frozen=True)
class Case:
    """One tensor merged by both: `settings` are for their algorithm, `parameters` for our method."""

    method: str
    base: Tensor
    tuned: list[Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    # Statistics or coins, one for each model, as they get them.
    beside: list[Tensor] = field(default_factory=list)
    companion: str = ""
    tensor: str = ""

    def ours(self) -> Tensor:
        """Our merge."""
        companions = {self.companion: torch.stack(self.beside)} if self.companion else None
        return merging.merge_tensor(self.method, self.tuned, self.base, companions=companions, **self.parameters)


def grid(shape: tuple[int, ...], name: str, scale: float) -> Tensor:
    """Normal numbers on the grid."""
    return (normal(shape, name, 0) * scale * GRID).round() / GRID


def models(name: str, shape: tuple[int, ...], tasks: int) -> tuple[Tensor, list[Tensor]]:
    """A base model's tensor and those of fine-tunes whose task vectors have something in common."""
    base, shared = grid(shape, f"{name}/base", 0.5), grid(shape, f"{name}/shared", 0.02)
    return base, [base + shared + grid(shape, f"{name}/{task}", 0.05) for task in range(tasks)]


def low_rank(shape: tuple[int, ...], name: str, rank: int) -> Tensor:
    """A matrix on the grid that has exactly this rank."""
    left, right = normal((shape[0], rank), f"{name}/left", 0), normal((rank, shape[1]), f"{name}/right", 0)
    return ((left * 2**6).round() / 2**8) @ ((right * 2**7).round() / 2**10)


class Draw:
    """What a case is drawn from: its shape, its models, and random settings."""

    def __init__(self, name: str, number: int, shapes: list[tuple[int, ...]], tasks: tuple[int, int]):
        self.choose = random.Random(f"{name}/{number}")
        self.name, self.shape = f"{name}/{number}", shapes[number % len(shapes)]
        self.base, self.tuned = models(self.name, self.shape, self.choose.randint(*tasks))

    @property
    def entries(self) -> int:
        return self.base.numel()

    def number(self, low: float, high: float) -> float:
        return round(self.choose.uniform(low, high), 3)

    def numbers(self, low: float, high: float) -> list[float]:
        return [self.number(low, high) for _ in self.tuned]

    def case(self, method: str, settings: Mapping[str, Any], parameters: Mapping[str, Any], **more: Any) -> Case:
        tensor = more.pop("tensor", NAMES[len(self.shape)])
        return Case(method, self.base, self.tuned, settings, parameters, tensor=tensor, **more)


def average(draw: Draw) -> Case:
    return draw.case("linear", {}, {})


def weighted_average(draw: Draw) -> Case:
    weights, normalize = draw.numbers(0.1, 1.5), draw.choose.random() < 0.5
    return draw.case(
        "linear", {"weights": weights, "normalize": normalize}, {"weight": weights, "normalize": normalize}
    )


def task_arithmetic(draw: Draw) -> Case:
    scale = draw.number(-0.5, 1.5)
    return draw.case("task_arithmetic", {"scaling_factor": scale}, {"lambda_": scale})


def ties(draw: Draw) -> Case:
    scale, kept, rule = draw.number(0.2, 2), draw.number(0.05, 0.9), draw.choose.choice(["sum", "mean", "max"])
    theirs = {"scaling_factor": scale, "threshold": kept, "merge_func": rule}
    return draw.case("ties_global", theirs, {"lambda_": scale, "density": kept, "aggregate": rule})


def opcm(draw: Draw) -> Case:
    share = draw.number(0.05, 0.95)
    return draw.case("opcm", {"alpha": share}, {"projection": share})


def tsv(draw: Draw) -> Case:
    weights, scale = draw.numbers(0.3, 1.5), draw.number(0.3, 1.5)
    if draw.choose.random() < 0.5:
        return draw.case("tsv_merge", {"alpha": weights}, {"weight": weights})
    return draw.case("tsv_merge", {"alpha": scale}, {"lambda_": scale})


def iso_c(draw: Draw) -> Case:
    scale = draw.number(0.3, 2)
    return draw.case("iso_c", {"scaling_factor": scale}, {"lambda_": scale})


def iso_cts(draw: Draw) -> Case:
    scale, share = draw.number(0.3, 2), draw.number(0.3, 0.95)
    theirs = {"scaling_factor": scale, "common_space_fraction": share}
    return draw.case("iso_cts", theirs, {"lambda_": scale, "common_share": share})


def emr(draw: Draw) -> Case:
    task = draw.choose.randint(0, len(draw.tuned))
    return draw.case("emr", {"task": task, "together": False}, {"task": task})


def wudi(draw: Draw) -> Case:
    steps = draw.choose.choice([1, 40, 300])
    return draw.case("wudi", {"steps": steps}, {"steps": steps, "solver": "gradient"})


def knots(draw: Draw) -> Case:
    """Half of the task vectors are of rank 2 and together of rank 2 N, as those of adapters."""
    rank = 2 if draw.choose.random() < 0.5 else draw.shape[1]
    if rank == 2:
        draw.tuned = [draw.base + low_rank(draw.shape, f"{draw.name}/{k}", 2) for k in range(len(draw.tuned))]
    if draw.choose.random() < 0.25:
        return draw.case("knots", {"kept": 0, "rule": "sum"}, {"inner": "sum"})
    n, kept = min(draw.shape[0], len(draw.tuned) * rank) * draw.shape[1], draw.number(0.1, 0.9)
    return draw.case("knots", {"kept": kept, "rule": "mean"}, {"density": (int(n * kept) + 1.5) / n})


def svc(draw: Draw) -> Case:
    scale, floor = draw.number(0.2, 1.2), draw.number(0.1, 1)
    return draw.case("svc", {"scaling_factor": scale, "alpha": floor}, {"weight": scale, "floor": floor})


def doge(draw: Draw) -> Case:
    kept, length, subspace = draw.number(0.1, 0.9), draw.number(0.02, 0.2), draw.choose.randint(1, 6)
    theirs = {"K": kept, "lamda": length, "subspace": subspace}
    return draw.case(
        "doge", theirs, {"density": kept, "length": length, "subspace": subspace}, tensor="encoder.layer.weight"
    )


def model_stock(draw: Draw) -> Case:
    return draw.case("model_stock", {}, {"average": "angle"})


def tall_masks(draw: Draw) -> Case:
    task, threshold = draw.choose.randint(1, len(draw.tuned)), draw.number(0.1, 1.2)
    return draw.case("tall_masks", {"task": task, "threshold": threshold}, {"task": task, "mask_threshold": threshold})


def consensus(draw: Draw) -> Case:
    threshold, agreement = draw.number(0.1, 1.2), draw.choose.randint(1, len(draw.tuned))
    scale = draw.number(0.2, 1)
    return draw.case(
        "consensus",
        {"threshold": threshold, "agreement": agreement, "scale": scale},
        {"mask_threshold": threshold, "agreement": agreement, "lambda_": scale},
    )


def magmax(draw: Draw) -> Case:
    scale = draw.number(0.2, 1.2)
    return draw.case("magmax", {"scaling_factor": scale}, {"lambda_": scale})


def fisher(draw: Draw) -> Case:
    """Their division by the length of a model's whole information is a division of its weight."""
    weights, normalize = draw.numbers(0.1, 1.5), draw.choose.random() < 0.5
    statistics = [normal(draw.shape, f"{draw.name}/fisher/{k}", 0).square() * 0.01 for k in range(len(draw.tuned))]
    floor = draw.choose.choice([1e-6, 1e-3])
    theirs = {"weights": weights, "normalize_fisher_weight": normalize, "minimal_fisher_weight": floor}
    shares = [w / (float(f.double().norm()) + floor) for w, f in zip(weights, statistics, strict=True)]
    ours = {"weight": shares if normalize else weights, "floor": floor}
    return draw.case("fisher", theirs, ours, beside=statistics, companion="fisher")


def regmean(draw: Draw) -> Case:
    """Shares of the off-diagonal that float32 holds: theirs makes its factors in float32."""
    share, inputs = draw.choose.choice([0.5, 0.875, 0.9375, 1.0]), draw.shape[1]
    seen = [normal((4 * inputs, inputs), f"{draw.name}/inputs/{k}", 0) for k in range(len(draw.tuned))]
    theirs = {"reduce_non_diagonal_ratio": share, "weight_transpose": True}
    statistics = [x.T @ x / len(x) for x in seen]
    return draw.case("regmean", theirs, {"reduction": share}, beside=statistics, companion="gram_inputs")


def dare(draw: Draw) -> Case:
    """Our coins, read off a merge of ones, are handed to them."""
    dropped, scale, rescale = draw.choose.randint(0, 15) / 16, draw.number(0.2, 1.2), draw.choose.random() < 0.7
    theirs = {"scaling_factor": scale, "sparsity_ratio": dropped, "rescale": rescale}
    ours = {"lambda_": scale, "density": 1 - dropped, "rescale": rescale, "rescaling": "probability", "seed": 3}
    return draw.case("dare_linear", theirs, ours, beside=_coins(draw, 1 - dropped))


def dare_ties(draw: Draw) -> Case:
    """The least their TIES can be told to drop is nothing."""
    drawn, rule = dare(draw), draw.choose.choice(["sum", "mean"])
    theirs = {**drawn.settings, "threshold": 1 - 0.5 / draw.entries, "remove_keys": [], "merge_func": rule}
    return replace(
        drawn, method="dare_ties", settings=theirs, parameters={**drawn.parameters, "normalize": rule == "mean"}
    )


def _coins(draw: Draw, density: float) -> list[Tensor]:
    tasks = range(len(draw.tuned))
    ones = [[torch.full(draw.shape, float(j == k)) for j in tasks] for k in tasks]
    return [
        merging.merge_tensor("dare_linear", each, torch.zeros(draw.shape), density=density, rescale=False, seed=3)
        for each in ones
    ]


def trust_region(draw: Draw) -> Case:
    """Theirs keeps the int(n share) entries below a place, ours all up to a place."""
    n, share, scale = draw.entries, draw.number(0.5, 0.99), draw.number(0.2, 1)
    kept = int(n * share)
    theirs = {"scaling_factor": scale, "threshold_quantile": share}
    return draw.case("trust_region", theirs, {"lambda_": scale, "density": (kept - 0.5) / (n - 1)})


def slerp(draw: Draw) -> Case:
    t = draw.number(-0.2, 1.2)
    drawn = draw.case("slerp", {"t": t}, {"t": t})
    far = grid(draw.shape, f"{draw.name}/far", 0.5)
    return replace(drawn, tuned=[far if draw.choose.random() < 0.7 else draw.tuned[0]])


def different() -> dict[str, Case]:
    """Merges on which the two differ by a choice of ours; each has a test of its own."""
    few = Draw("few", 0, [(24, 16)], (3, 3))
    few.tuned = [few.base + low_rank(few.shape, f"few/{k}", 2) for k in range(3)]
    many = Draw("many", 0, [(7, 5)], (6, 6))
    return {
        "iso_c-low": few.case("iso_c", {"scaling_factor": 1.0}, {}),
        "opcm-low": replace(few.case("opcm", {"alpha": 0.5}, {}), tuned=few.tuned[:2]),
        "tsv-many": many.case("tsv_merge", {"alpha": 1.0}, {}),
    }
