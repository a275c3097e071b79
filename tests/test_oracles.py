"""Our merges against mergekit 0.1.5 run in float32, for recipes over whole models and for single tensors.

mergekit lives in an interpreter of its own: $MERGING_ORACLE_PYTHON, or this one, or .venv-oracle (`make oracle`).
All of its merges run once, in one process. Tolerance: both sides compute in float32 in different orders, so an entry
may differ by a few units in the last place of the tensor's largest (ROUNDING). bf16 models have many entries of equal
magnitude; where a method cuts between such, mergekit's choice depends on the processor and ours is stated, and these
entries alone are left out of the comparison. The float32 models have none.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import merging
from tests import tiny
from tests.oracle_recipes import RECIPES

ROUNDING = 2.0**-21
INSTALL = "run `make oracle`, or set MERGING_ORACLE_PYTHON to a python with mergekit==0.1.5"

CUTTING = ("ties", "breadcrumbs")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CASES = 240
# Methods of random cases: smallest and largest number of models beside the base model, and whether there is one.
METHODS: dict[str, tuple[int, int, bool | None]] = {
    "linear": (1, 5, False),
    "slerp": (1, 1, True),
    "task_arithmetic": (1, 5, True),
    "ties": (1, 5, True),
    "breadcrumbs": (1, 5, True),
    "breadcrumbs_ties": (1, 5, True),
    "karcher": (1, 5, False),
    "model_stock": (2, 5, True),
    "multislerp": (2, 5, None),
    "nearswap": (1, 1, True),
    "nuslerp": (2, 2, None),
    "arcee_fusion": (1, 1, True),
    "sce": (1, 5, True),
    "ram": (1, 5, True),
    "ramplus_tl": (1, 5, True),
}
# Spheres and medians take more steps to the same place.
LOOSER = {"karcher": 64, "multislerp": 16, "nuslerp": 16, "arcee_fusion": 4}


@dataclass(frozen=True)
class Oracle:
    """What mergekit made of every recipe in float32, and of every single-tensor case."""

    folder: Path
    families: Mapping[str, tiny.Family]
    cases: list[dict[str, Any]]
    tensors: Mapping[str, Tensor]
    merged: Mapping[str, Tensor]

    def recipe(self, name: str, family: str, dtype: str) -> str:
        """A recipe over one of the families, computed or stored in `dtype`."""
        places = self.families[family]
        return RECIPES[name].format(places.base, *places.tuned).lstrip() + f"dtype: {dtype}\n"

    def theirs(self, name: str, family: str) -> dict[str, Tensor]:
        """mergekit's output."""
        return weights(self.folder / "theirs" / family / name)


def oracle_python() -> str:
    """A python that has mergekit; skips, saying how to get one, where there is none."""
    candidates = [os.environ.get("MERGING_ORACLE_PYTHON"), sys.executable if _has_mergekit() else None]
    candidates.append(str(Path(__file__).parents[1] / ".venv-oracle" / "bin" / "python"))
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            return candidate
    pytest.skip(f"NOT COMPARED WITH mergekit: it is not installed; {INSTALL}")


def _has_mergekit() -> bool:
    return importlib.util.find_spec("mergekit") is not None


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """All of mergekit's merges, in one process of its own."""
    python = oracle_python()
    folder = tmp_path_factory.mktemp("oracle")
    families = {
        name: tiny.family(folder / name, layers=3, models=3, dtype=dtype, shards=2, change=0.4)
        for name, dtype in DTYPES.items()
    }
    cases, tensors = random_cases()
    made = Oracle(folder, families, cases, tensors, {})
    merges = []
    for family in DTYPES:
        for name in RECIPES:
            out = folder / "theirs" / family / name
            out.mkdir(parents=True)
            (folder / f"{family}-{name}.yaml").write_text(made.recipe(name, family, "float32"))
            merges.append([str(folder / f"{family}-{name}.yaml"), str(out)])
    save_file(tensors, folder / "cases.safetensors")
    work = {"merges": merges, "cases": cases, "tensors": str(folder / "cases.safetensors")}
    (folder / "work.json").write_text(json.dumps({**work, "out": str(folder / "merged.safetensors")}))
    driver = Path(__file__).parent / "mergekit_driver.py"
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    ended = subprocess.run(
        [python, str(driver), str(folder / "work.json")], env=offline, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return Oracle(folder, families, cases, tensors, load_file(folder / "merged.safetensors"))


def weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint folder, read by safetensors itself."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def ours(oracle: Oracle, name: str, family: str, dtype: str) -> dict[str, Tensor]:
    """Our output for a recipe, merged the first time it is asked for."""
    out = oracle.folder / "ours" / family / dtype / name
    if not out.exists():
        recipe = oracle.folder / f"{family}-{dtype}-{name}.yaml"
        recipe.write_text(oracle.recipe(name, family, dtype))
        merging.merge(recipe, out)
    return weights(out)


def cuts(oracle: Oracle, name: str, family: str) -> dict[str, Tensor]:
    """Where a task vector has the very magnitude at which it is cut, and other entries on both sides share it."""
    if not name.startswith(CUTTING):
        return {}
    base = weights(oracle.families[family].base)
    tuned = [weights(place) for place in oracle.families[family].tuned]
    plan = merging.plan(oracle.folder / f"{family}-{name}.yaml")
    found = {}
    for job in plan.jobs:
        anchor = base[job.spec.name].float()
        found[job.spec.name] = torch.zeros(anchor.shape, dtype=torch.bool)
        for position in range(len(job.operands)):
            magnitudes = (tuned[position][job.spec.name].float() - anchor).abs()
            ordered = magnitudes.flatten().sort().values
            for rank in _cut_ranks(name, job, position, anchor.numel()):
                if 0 < rank < len(ordered) and ordered[rank - 1] == ordered[rank]:
                    found[job.spec.name] |= magnitudes == ordered[rank]
    return found


def _cut_ranks(name: str, job: Any, position: int, entries: int) -> tuple[int, ...]:
    """Ascending ranks between which entries are kept."""

    def of(parameter: str) -> float:
        value = job.parameters[parameter]
        return float(value[position] if isinstance(value, tuple) else value)

    kept = int(of("density") * entries)
    if name.startswith("ties"):
        return (entries - max(1, kept),)
    bottom = max(0, entries - kept - int(of("gamma") * entries))
    return bottom, bottom + kept


def assert_equal_to_rounding(a: Tensor, b: Tensor, where: str, aside: Tensor | bool = False) -> None:
    """Equal shapes and dtypes; entries equal to a few units in the last place of the largest."""
    assert a.shape == b.shape and a.dtype == b.dtype, where
    apart = (a - b).abs() > ROUNDING * b.abs().max()
    wrong = int((apart & ~torch.as_tensor(aside)).sum())
    assert not wrong, f"{where}: {wrong} of {a.numel()} entries differ, by up to {float((a - b).abs().max())}"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_over_float32_models_gives_mergekits_float32_result(oracle: Oracle, name: str) -> None:
    mine, theirs = ours(oracle, name, "float32", "float32"), oracle.theirs(name, "float32")
    assert mine.keys() == theirs.keys()
    for tensor in theirs:
        assert_equal_to_rounding(mine[tensor], theirs[tensor], f"{name}, {tensor}")


# How many equal magnitudes at a cut are kept decides by how much rescaling stretches the whole tensor.
@pytest.mark.parametrize("name", [name for name in RECIPES if name != "ties-rescaled"])
def test_a_recipe_over_bfloat16_models_gives_mergekits_float32_result(oracle: Oracle, name: str) -> None:
    mine, theirs = ours(oracle, name, "bfloat16", "float32"), oracle.theirs(name, "bfloat16")
    assert mine.keys() == theirs.keys()
    aside = cuts(oracle, name, "bfloat16")
    for tensor in theirs:
        assert_equal_to_rounding(mine[tensor], theirs[tensor], f"{name}, {tensor}", aside.get(tensor, False))


@pytest.mark.parametrize("name", RECIPES)
def test_a_bfloat16_recipe_is_the_float32_result_rounded_once(oracle: Oracle, name: str) -> None:
    short = ours(oracle, name, "bfloat16", "bfloat16")
    long = ours(oracle, name, "bfloat16", "float32")
    assert short.keys() == long.keys()
    for tensor in long:
        assert torch.equal(short[tensor], long[tensor].bfloat16()), tensor


@pytest.mark.parametrize("name", ["slerp-slices", "passthrough-slices"])
def test_stacked_layers_count_as_mergekit_counts_them(oracle: Oracle, name: str) -> None:
    ours(oracle, name, "float32", "float32")
    mine = json.loads((oracle.folder / "ours" / "float32" / "float32" / name / "config.json").read_text())
    theirs = json.loads((oracle.folder / "theirs" / "float32" / name / "config.json").read_text())
    assert mine["num_hidden_layers"] == theirs["num_hidden_layers"]


def random_cases() -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Methods with random settings, models and shapes; entries of distinct magnitudes."""
    choose = random.Random(5)
    cases: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    for number in range(CASES):
        method = list(METHODS)[number % len(METHODS)]
        least, most, based = METHODS[method]
        tasks = choose.randint(least, most)
        shape = choose.choice([(1,), (7,), (33,), (129,), (5, 11), (64, 40), (3, 4, 5)])
        based = choose.random() < 0.5 if based is None else based
        for model in range(tasks + based):
            tensors[f"{number}/{model}"] = tiny.normal(shape, f"{number}/{model}", 0) * 0.1
        base = 0 if based else None
        parameters = _random_parameters(method, tasks, choose)
        cases.append({"method": method, "models": tasks + based, "base": base, "parameters": parameters})
    return cases, tensors


def _random_parameters(method: str, tasks: int, choose: random.Random) -> dict[str, Any]:
    """Values as mergekit takes them; per-model ones for all inputs but the base model."""

    def each(smallest: float, largest: float) -> list[float]:
        return [round(choose.uniform(smallest, largest), 3) for _ in range(tasks)]

    match method:
        case "slerp":
            return {"t": round(choose.uniform(-0.2, 1.2), 3)}
        case "nearswap":
            return {"t": round(choose.uniform(0.0, 0.1), 3)}
        case "karcher" | "arcee_fusion" | "ram":
            return {}
        case "model_stock":
            return {"filter_wise": choose.random() < 0.5}
        case "sce":
            return {"select_topk": round(choose.uniform(0.1, 1.0), 3)}
        case "ramplus_tl":
            return {"r": round(choose.uniform(0.0, 1.0), 3), "alpha": round(choose.uniform(0.0, 1.0), 3)}
        case "multislerp":
            return {"weight": each(0.1, 1.5), "normalize_weights": choose.random() < 0.5}
        case "nuslerp":
            flat = choose.random() < 0.5
            return {"weight": each(0.1, 1.5), "nuslerp_flatten": flat, "nuslerp_row_wise": choose.random() < 0.5}
    parameters: dict[str, Any] = {"weight": each(0.1, 1.5), "normalize": choose.random() < 0.5}
    if method == "linear":
        return parameters
    if choose.random() < 0.3:
        parameters["weight"] = [-value if choose.random() < 0.4 else value for value in parameters["weight"]]
    parameters["lambda"] = round(choose.uniform(0.2, 2.0), 3)
    if method != "task_arithmetic":
        parameters |= {"density": each(0.05, 1.0), "rescale": choose.random() < 0.3}
    if method.startswith("breadcrumbs"):
        parameters["gamma"] = each(0.0, 0.2)
    return parameters


@pytest.mark.parametrize("number", range(CASES))
def test_a_tensor_merged_with_random_settings_is_mergekits(oracle: Oracle, number: int) -> None:
    case = oracle.cases[number]
    inputs = [oracle.tensors[f"{number}/{model}"] for model in range(case["models"])]
    base = None if case["base"] is None else inputs.pop(0)
    parameters = {{"lambda": "lambda_"}.get(name, name): value for name, value in case["parameters"].items()}
    merged = merging.merge_tensor(case["method"], inputs, base, **parameters)
    theirs = oracle.merged[str(number)]
    largest = max(float(tensor.abs().max()) for tensor in [*inputs, theirs])
    assert (merged - theirs).abs().max() <= 4 * LOOSER.get(case["method"], 1) * ROUNDING * largest, case
