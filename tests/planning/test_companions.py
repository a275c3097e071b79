"""Statistics that models bring along: named in the recipe, matched by name and shape, refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from merging.checkpoint.tensors import MemoryCheckpoint
from merging.engine.merge import merge
from merging.methods.apply import merge_tensor
from merging.recipe.text import read_recipe
from tests.planning.models import changed, models, problems, without

FISHER = """
merge_method: fisher
models:
- {model: a, companions: {fisher: a-fisher}}
- {model: b, companions: {fisher: b-fisher}}
"""
NORM = "model.norm.weight"


def checkpoints() -> dict[str, MemoryCheckpoint]:
    """Two models and, for each, a positive number per entry."""
    held = models()
    held |= {
        f"{key}-fisher": changed(held[key], lambda tensors: {name: x.float().square() for name, x in tensors.items()})
        for key in ("a", "b")
    }
    return held


def test_a_recipe_with_companions_reads_back_equal() -> None:
    recipe = read_recipe(FISHER)
    assert recipe.models[1].companions == {"fisher": "b-fisher"}
    assert read_recipe(recipe.text()) == recipe
    assert recipe.sources() == ("a", "a-fisher", "b", "b-fisher")


def test_companions_are_found_by_name_for_every_model() -> None:
    held = checkpoints()
    sink: dict[str, torch.Tensor] = {}

    class Kept:
        def write(self, name: str, start: int, block: torch.Tensor) -> None:
            sink.setdefault(name, torch.zeros(held["a"].specs[name].length, dtype=block.dtype))[
                start : start + block.numel()
            ] = block

        def settle(self, name: str) -> None:
            pass

        def seal(self) -> list[Path]:
            return []

    merge(FISHER, Kept(), checkpoints=held)
    seen = torch.stack([held[key].read(NORM) for key in ("a", "b")])
    information = torch.stack([held[f"{key}-fisher"].read(NORM).float() for key in ("a", "b")])
    expected = merge_tensor("fisher", seen, companions={"fisher": information})
    assert torch.equal(sink[NORM], expected)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (FISHER.replace(", companions: {fisher: b-fisher}", ""), "fisher needs fisher of b"),
        (FISHER.replace("fisher: b-fisher", "fishing: b-fisher"), "fisher has no companion 'fishing'"),
        (FISHER.replace("merge_method: fisher", "merge_method: linear"), "linear has no companion 'fisher'"),
    ],
)
def test_companions_that_are_missing_or_unknown_are_refused(text: str, what: str) -> None:
    assert what in [problem.what for problem in problems(text, checkpoints())]


def test_statistics_without_a_tensor_or_of_another_shape_are_refused_with_what_they_must_be() -> None:
    held = checkpoints()
    held["a-fisher"] = without(held["a-fisher"], NORM)
    held["b-fisher"] = changed(held["b-fisher"], lambda tensors: {**tensors, NORM: torch.ones(3)})
    found = {problem.what: problem.must_be for problem in problems(FISHER, held)}
    assert set(found) == {f"a-fisher has no tensor {NORM}", f"b-fisher holds {NORM} in shape [3]"}
    assert set(found.values()) == {f"the shape {list(held['a'].specs[NORM].shape)}"}


REGMEAN = FISHER.replace("merge_method: fisher", "merge_method: regmean").replace("fisher:", "gram_inputs:")
KEYS = "model.layers.0.self_attn.k_proj.weight"


def test_inner_products_are_of_the_inputs_of_a_matrix_and_vectors_need_none() -> None:
    found = {problem.what: problem for problem in problems(REGMEAN, checkpoints())}
    problem = found[f"a-fisher holds {KEYS} in shape [32, 64]"]
    assert problem.must_be == "the shape [64, 64]"
    assert problem.where and problem.fix == "collect the statistics with the model they belong to"
    assert not [what for what in found if "norm" in what or "embed" in what]


def test_inner_products_of_outputs_are_refused() -> None:
    held = checkpoints()
    for key in ("a-fisher", "b-fisher"):
        held[key] = changed(held[key], lambda tensors: {name: _products(x) for name, x in tensors.items()})
    assert not problems(REGMEAN, held)
    for key in ("a-fisher", "b-fisher"):
        held[key] = changed(held[key], lambda tensors: {**tensors, KEYS: torch.ones(32, 32)})
    refused = problems(REGMEAN, held)
    assert [problem.what for problem in refused] == [
        f"{key} holds {KEYS} in shape [32, 32]" for key in held if "-" in key
    ]
    assert {problem.must_be for problem in refused} == {"the shape [64, 64]"}


def _products(x: torch.Tensor) -> torch.Tensor:
    return x.float().mT @ x.float() if x.ndim > 1 else x


def test_weights_that_cancel_are_found_before_anything_is_read() -> None:
    for method, fix in (("linear", "normalize: false"), ("multislerp", "normalize_weights: false")):
        text = f"merge_method: {method}\nmodels:\n"
        text += "".join(
            f"- {{model: {key}, parameters: {{weight: {weight}}}}}\n" for key, weight in (("a", 1), ("b", -1))
        )
        (problem,) = problems(text + "parameters: {}\n", checkpoints())
        assert problem.what.startswith(f"{method} cannot")
        assert problem.where and problem.must_be == "weights whose sum is not zero" and fix in str(problem.fix)
