"""LoRA adapters on their base model and their combinations, against PEFT.

PEFT combines dense updates in the types ending in "svd" and, exactly, in "cat"; these are merges of `base+adapter`
here. Its other types combine the factors, A with A and B with B, so that products of one adapter's A with another's B
come in: our methods do the same to factors if they are given factors, never to adapters. Where it elects signs weights
have no vote and do not divide, so equal weights are one scale, and others have no counterpart here. Its election by
number of models instead of by mass has none either. Random types are handed our coins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import merging
from tests import tiny
from tests.oracles.interpreter import PEFT, apart, size

SIZES: Mapping[str, Mapping[str, Any]] = {
    "llama": {"layers": 2, "hidden": 32, "intermediate": 48},
    "gpt2": {"layers": 1, "hidden": 32},
}
TARGETS = {"llama": ["q_proj", "o_proj"], "gpt2": ["c_attn", "c_proj"]}
# The smaller side of every target; a combination of this rank is exact whatever it is of.
SIDE = 32
MIXED, DENSITY, SEED = ["first", "second", "third"], 0.375, 7
WEIGHTS = [0.7, -0.4, 0.5]
# Sums of few products in float32 on both sides; on theirs a float32 SVD, put together again; and a part of one, which
# turns by rounding over the gap between two singular values.
ROUNDING, DECOMPOSED, CUT_OFF = 2.0**-22, 2.0**-18, 2.0**-16


def adapters(family: str) -> dict[str, dict[str, Any]]:
    """Settings of every adapter; the scales of those that are mixed are 2, 1 and 3."""
    stored = {"target_modules": TARGETS[family], "fan_in_fan_out": family == "gpt2"}
    made = {
        "first": {"r": 4, "lora_alpha": 8, **stored},
        "second": {"r": 4, "lora_alpha": 4, **stored},
        "third": {"r": 4, "lora_alpha": 6, "use_rslora": True, **stored},
        "small": {"r": 2, "lora_alpha": 5, **stored},
    }
    if family == "gpt2":
        return {**made, "biased": {"r": 3, "lora_alpha": 3, "bias": "lora_only", **stored}}
    pattern = {"rank_pattern": {"down_proj": 2}, "alpha_pattern": {"v_proj": 3}}
    targets = ["q_proj", "v_proj", "down_proj"]
    whole = {"target_modules": ["embed_tokens", "k_proj"], "modules_to_save": ["lm_head"]}
    return {
        **made,
        "patterned": {"r": 4, "lora_alpha": 8, "target_modules": targets, **pattern},
        "embedded": {"r": 3, "lora_alpha": 1, **whole},
    }


SCALES = {"first": 2.0, "second": 1.0, "third": 3.0, "small": 2.5}


@dataclass(frozen=True)
class Combination:
    """A type of theirs with its arguments, and our method with its parameters."""

    type: str
    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    weights: tuple[float, ...] = tuple(WEIGHTS)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    of: tuple[str, ...] = tuple(MIXED)


PRUNED = {"density": DENSITY}
EXACT = {"svd_rank": SIDE}
EQUAL = (0.6, 0.6, 0.6)
COINS = {"density": DENSITY, "rescaling": "probability"}
DENSE: Mapping[str, Combination] = {
    "cat": Combination("cat", "task_arithmetic"),
    "cat-of-unequal-ranks": Combination("cat", "task_arithmetic", of=("first", "small", "third")),
    "svd": Combination("svd", "task_arithmetic", arguments={"svd_rank": 12}),
    "ties": Combination("ties_svd", "ties", PRUNED, EQUAL, EXACT | PRUNED),
    "magnitude": Combination("magnitude_prune_svd", "breadcrumbs", PRUNED | {"gamma": 0}, arguments=EXACT | PRUNED),
    "dare": Combination("dare_linear_svd", "dare_linear", COINS, arguments=EXACT | PRUNED),
    "dare-ties": Combination("dare_ties_svd", "dare_ties", COINS | {"normalize": True}, EQUAL, EXACT | PRUNED),
}
# Weights that make the square roots of weight times scale equal.
LEVEL = tuple(0.6 / SCALES[name] for name in MIXED)
FACTORS: Mapping[str, Combination] = {
    "factors-linear": Combination("linear", "task_arithmetic"),
    "factors-ties": Combination("ties", "ties", PRUNED, LEVEL, PRUNED),
    "factors-magnitude": Combination("magnitude_prune", "breadcrumbs", PRUNED | {"gamma": 0}, arguments=PRUNED),
    "factors-dare": Combination("dare_linear", "dare_linear", COINS, arguments=PRUNED),
    "factors-dare-ties": Combination("dare_ties", "dare_ties", COINS | {"normalize": True}, LEVEL, PRUNED),
}
TRUNCATED = Combination("svd", "task_arithmetic", arguments={"svd_rank": 3})
ALL = {**DENSE, **FACTORS, "truncated": TRUNCATED}


@dataclass(frozen=True)
class Made:
    """Folders of base models and adapters, and what PEFT made of them."""

    folder: Path
    theirs: Mapping[str, Tensor] = field(repr=False)

    def base(self, family: str) -> dict[str, Tensor]:
        """The base model's tensors."""
        return load_file(self.folder / family / "base" / "model.safetensors")

    def merged(self, family: str, name: str) -> dict[str, Tensor]:
        """Our merge of a recipe beside the folders."""
        return load_file(self.folder / "ours" / family / name / "model.safetensors")

    def merge(self, family: str, name: str, text: str) -> dict[str, Tensor]:
        """Our merge by the text of a recipe."""
        (self.folder / f"{family}-{name}.yaml").write_text(text)
        merging.merge(self.folder / f"{family}-{name}.yaml", self.folder / "ours" / family / name)
        return self.merged(family, name)

    def factor(self, family: str, adapter: str, module: str, side: str) -> Tensor:
        """A factor as PEFT stored it."""
        stored = load_file(self.folder / family / adapter / "adapter_model.safetensors")
        return stored[f"base_model.model.{module.removesuffix('.weight')}.lora_{side}.weight"]


def modules(family: str) -> list[str]:
    """The matrices that the mixed adapters change."""
    names = tiny.KINDS[family](**SIZES[family])[0]
    return [name for name in names if name.endswith(".weight") and name.split(".")[-2] in TARGETS[family]]


def coins(name: str, shape: tuple[int, ...]) -> list[Tensor]:
    """What our DARE keeps of a tensor of each of the mixed adapters, as ones and zeros."""
    tasks = range(len(MIXED))
    ones = [[torch.full(shape, float(j == k)) for j in tasks] for k in tasks]
    settings = {"density": DENSITY, "rescale": False, "seed": SEED, "tensor": name}
    return [merging.merge_tensor("dare_linear", each, torch.zeros(shape), **settings) for each in ones]


def handed_over(family: str) -> Iterator[tuple[str, Tensor]]:
    shapes = {name: tuple(x.shape) for name, x in tiny.KINDS[family](**SIZES[family])[0].items()}
    for name in (name for name in ALL if "dare" in name):
        for module in modules(family):
            rows, columns = shapes[module] if family == "llama" else shapes[module][::-1]
            sides = [("A", (4, columns)), ("B", (rows, 4))] if name in FACTORS else [("", shapes[module])]
            tossed = [coin for side, shape in sides for coin in coins(module + side, shape)]
            yield from ((f"{family}/{name}/{module}/{place}", coin) for place, coin in enumerate(tossed))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """All of PEFT's adapters and merges, in one process of its own."""
    PEFT.python()
    folder = tmp_path_factory.mktemp("peft")
    families = {}
    for family in SIZES:
        tiny.write(folder / family / "base", *tiny.KINDS[family](**SIZES[family]))
        told = {
            name: {"folder": str(folder / family / name), "settings": settings}
            for name, settings in adapters(family).items()
        }
        combinations = {
            name: {
                "adapters": each.of,
                "arguments": {"weights": each.weights, "combination_type": each.type, **each.arguments},
            }
            for name, each in ALL.items()
        }
        families[family] = {"base": str(folder / family / "base"), "adapters": told, "combinations": combinations}
    given = dict(pair for family in SIZES for pair in handed_over(family))
    return Made(folder, PEFT.run("peft_driver.py", folder, {"families": families}, given))


def recipe(family: str, each: Combination) -> str:
    """Our merge of the dense updates; equal weights are one scale where signs are elected."""
    weights = (1.0,) * len(each.of) if each.weights == EQUAL else each.weights
    listed = "".join(
        f"  - {{model: {family}/base+{family}/{name}, parameters: {{weight: {weight}}}}}\n"
        for name, weight in zip(each.of, weights, strict=True)
    )
    values = {**each.parameters, **({"lambda": EQUAL[0]} if each.weights == EQUAL else {})}
    told = ", ".join(f"{name}: {str(value).lower()}" for name, value in values.items())
    head = f"merge_method: {each.method}\nbase_model: {family}/base\nmodels:\n{listed}"
    return f"{head}parameters: {{{told}}}\nseed: {SEED}\ndtype: float32\n"


def assert_same(ours: Mapping[str, Tensor], made: Made, prefix: str, allowed: float) -> None:
    """Every tensor of ours is theirs up to a share of its largest entry."""
    for name, x in ours.items():
        theirs = made.theirs[f"{prefix}/{name}"]
        assert apart(x, theirs, size(theirs)) <= allowed, name


@pytest.mark.parametrize(("family", "adapter"), [(family, name) for family in SIZES for name in adapters(family)])
def test_a_base_with_an_adapter_is_the_model_into_which_peft_merges_it(made: Made, family: str, adapter: str) -> None:
    text = f"merge_method: passthrough\nmodels: [{{model: {family}/base+{family}/{adapter}}}]\ndtype: float32\n"
    ours = made.merge(family, adapter, text)
    assert any(not torch.equal(x, made.base(family)[name]) for name, x in ours.items())
    assert_same(ours, made, f"{family}/{adapter}", ROUNDING)


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("family", SIZES)
def test_a_merge_of_adapted_models_is_pefts_combination_of_their_updates(made: Made, family: str, name: str) -> None:
    ours = made.merge(family, f"combined-{name}", recipe(family, DENSE[name]))
    assert_same(ours, made, f"{family}/{name}", ROUNDING if name.startswith("cat") else DECOMPOSED)


@pytest.mark.parametrize("family", SIZES)
def test_a_combination_of_small_rank_is_the_nearest_to_our_merge(made: Made, family: str) -> None:
    ours, base = made.merge(family, "truncated", recipe(family, TRUNCATED)), made.base(family)
    for module in modules(family):
        u, s, vt = torch.linalg.svd(ours[module].double() - base[module].double(), full_matrices=False)
        nearest = base[module].double() + (u[:, :3] * s[:3]) @ vt[:3]
        assert apart(nearest, made.theirs[f"{family}/truncated/{module}"], size(ours[module])) <= CUT_OFF


def roots(each: Combination) -> dict[str, list[float]]:
    """PEFT's weights of the factors: roots of weight times scale, with the sign at A."""
    shares = [weight * SCALES[name] for name, weight in zip(each.of, each.weights, strict=True)]
    unsigned = [math.sqrt(abs(share)) for share in shares]
    return {"A": [math.copysign(root, share) for root, share in zip(unsigned, shares, strict=True)], "B": unsigned}


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("family", SIZES)
def test_our_method_on_factors_is_pefts_combination_of_factors(made: Made, family: str, name: str) -> None:
    each = FACTORS[name]
    for module in modules(family):
        for side, weights in roots(each).items():
            factors = [made.factor(family, adapter, module, side) for adapter in each.of]
            scale = {"weight": weights} if each.weights != LEVEL else {"lambda_": weights[0]}
            place = {"tensor": module + side, "seed": SEED}
            zeros = torch.zeros_like(factors[0])
            ours = merging.merge_tensor(each.method, factors, zeros, **each.parameters, **scale, **place)
            theirs = made.theirs[f"{family}/{name}/{module}/{side}"]
            assert apart(ours, theirs, size(theirs)) <= ROUNDING, (module, side)


@pytest.mark.parametrize("family", SIZES)
def test_combined_factors_differ_from_our_merge_by_products_across_adapters(made: Made, family: str) -> None:
    ours = made.merge(family, "linear", recipe(family, FACTORS["factors-linear"]))
    weights, tasks = roots(FACTORS["factors-linear"]), range(len(MIXED))
    for module in modules(family):
        a, b = (
            [w * made.factor(family, name, module, side).double() for name, w in zip(MIXED, weights[side], strict=True)]
            for side in ("A", "B")
        )
        across = sum(b[i] @ a[j] for i in tasks for j in tasks if i != j)
        across = across.T if family == "gpt2" else across
        theirs = made.theirs[f"{family}/factors-linear/{module}"]
        assert apart(ours[module].double() + across, theirs, size(theirs)) <= ROUNDING
        assert apart(ours[module], theirs, size(theirs)) > 0.01
