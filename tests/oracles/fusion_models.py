"""Whole tiny models on disk, merged by a recipe and by FusionBench's algorithm over modules of the same names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

import merging
from tests import tiny
from tests.oracles.fusion_cases import GRID, grid

MODELS = 4
SIZES: Mapping[str, Mapping[str, Any]] = {
    "llama": {"layers": 2, "hidden": 32, "intermediate": 48, "tied": True},
    "bert": {"layers": 1, "hidden": 32},
    "vit": {"layers": 1},
    "matrices": {},
}
# Matrices that no method of ours takes for one: tables that are looked up, and heads. Theirs is told of them.
TABLES = ("embed", "classifier")


@dataclass(frozen=True)
class Merge:
    """A merge as both are told to make it, the families of models it is made of, and how far apart the two may be.

    Shares of the largest entry of a tensor, where theirs computes in float64 and in float32; what is a chain of
    singular value decomposition in float32 loses most.
    """

    algorithm: str
    settings: Mapping[str, Any]
    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    families: tuple[str, ...] = ("llama", "bert", "vit")
    exact: float = 2.0**-22
    rounded: float = 2.0**-14


def _ties(aggregate: str) -> Merge:
    theirs = {"scaling_factor": 0.4, "threshold": 20, "merge_func": aggregate}
    return Merge("ties", theirs, "ties_global", {"density": 0.2, "aggregate": aggregate, "lambda": 0.4})


def _opcm(share: float) -> Merge:
    """Theirs leaves out parameters of modules that have parts of their own, of which ViT has two."""
    return Merge("opcm", {"alpha": share}, "opcm", {"projection": share}, ("llama", "bert"))


MERGES: Mapping[str, Merge] = {
    "average": Merge("average", {}, "linear"),
    "task_arithmetic": Merge("task_arithmetic", {"scaling_factor": 0.3}, "task_arithmetic", {"lambda": 0.3}),
    "ties-sum": _ties("sum"),
    "ties-mean": _ties("mean"),
    "ties-max": _ties("max"),
    "opcm": _opcm(0.5),
    "opcm-less": _opcm(0.2),
    "opcm-more": _opcm(0.9),
    "tsv": Merge("tsv", {"alpha": 0.8}, "tsv_merge", {"lambda": 0.8}),
    "iso_c": Merge("iso_c", {"scaling_factor": 1.5}, "iso_c", {"lambda": 1.5}),
    "iso_cts": Merge(
        "iso_cts",
        {"scaling_factor": 1.5, "common_space_fraction": 0.6},
        "iso_cts",
        {"lambda": 1.5, "common_share": 0.6},
    ),
    "wudi": Merge("wudi", {"steps": 100}, "wudi", {"solver": "gradient", "steps": 100}),
    "doge": Merge("doge", {"K": 0.3, "lamda": 0.07, "subspace": 6}, "doge", {}, ("matrices",)),
    "magmax": Merge("magmax", {"scaling_factor": 0.5}, "magmax"),
    # Theirs adds 1e-8 to the product of two lengths, here 1e-3 for the smallest tensors.
    "model_stock": Merge("model_stock", {}, "model_stock", {"average": "angle"}, exact=2.0**-17),
    "svc": Merge("svc", {"scaling_factor": 0.3, "alpha": 0.5}, "svc", {"weight": 0.3, "floor": 0.5}),
    "emr-unified": Merge("emr", {"task": 0, "together": False}, "emr", {"task": 0}),
    "emr-task": Merge("emr", {"task": 2, "together": True}, "emr", {"task": 2}),
    "emr-task-by-tensor": Merge("emr", {"task": 2, "together": False}, "emr", {"task": 2}),
    "tall_masks": Merge("tall_masks", {"task": 3, "threshold": 0.4}, "tall_masks", {"task": 3}),
    "consensus": Merge("consensus", {"threshold": 0.4, "agreement": 2, "scale": 0.3}, "consensus"),
    "trust_region": Merge("trust_region", {"scaling_factor": 0.3, "threshold_quantile": 0.99}, "trust_region"),
}
PAIRS = [(family, name) for name, merge in MERGES.items() for family in merge.families]
# Differs by a factor that has a test of its own.
SCALED = "emr-task-by-tensor"


@cache
def tensors(family: str) -> tuple[dict[str, Tensor], tiny.Config]:
    """A base model on the grid, with its config; matrices of an encoder for what merges nothing else.

    BERT comes without its head, whose bias belongs to a module with parts of its own.
    """
    if family == "matrices":
        shapes = {"encoder.a.weight": (24, 40), "encoder.b.weight": (30, 18), "encoder.c.weight": (16, 16)}
        return {name: grid(shape, name, 0.5) for name, shape in shapes.items()}, {}
    made, config = tiny.KINDS[family](**SIZES[family])
    kept = {name: x for name, x in made.items() if not name.startswith("cls.")}
    return {name: (x * GRID).round() / GRID for name, x in kept.items()}, config


@cache
def tuned(family: str) -> list[dict[str, Tensor]]:
    """Fine-tunes whose task vectors have something in common."""
    base, _ = tensors(family)
    shared = {name: grid(tuple(x.shape), f"{family}/{name}/shared", 0.01) for name, x in base.items()}
    return [
        {name: x + shared[name] + grid(tuple(x.shape), f"{family}/{name}/{k}", 0.02) for name, x in base.items()}
        for k in range(MODELS)
    ]


def tables(family: str) -> list[str]:
    """Matrices that count as none."""
    return [name for name, x in tensors(family)[0].items() if x.dim() == 2 and any(part in name for part in TABLES)]


def write(folder: Path) -> None:
    """All families as checkpoint folders."""
    for family in SIZES:
        base, config = tensors(family)
        for k, each in enumerate([base, *tuned(family)]):
            tiny.write(folder / family / str(k), each, config)


def recipe(family: str, merge: Merge, models: int = MODELS) -> str:
    """The merge as a recipe beside the family's folders."""
    listed = ", ".join(f"{{model: {family}/{k}}}" for k in range(1, models + 1))
    values = ", ".join(f"{name}: {value}" for name, value in merge.parameters.items())
    base = "" if merge.method == "linear" else f"base_model: {family}/0\n"
    return f"merge_method: {merge.method}\n{base}models: [{listed}]\nparameters: {{{values}}}\ndtype: float32\n"


def ours(folder: Path, family: str, name: str) -> dict[str, Tensor]:
    """Our merge of a family, made in `folder` beside the models."""
    path, out = folder / f"{family}-{name}.yaml", folder / "ours" / family / name
    path.write_text(recipe(family, MERGES[name]))
    merging.merge(path, out)
    return weights(out)


def weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a merged model, read by safetensors itself."""
    return load_file(folder / "model.safetensors")
