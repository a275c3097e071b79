from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from merging.checkpoint.tensors import MemoryCheckpoint
from merging.errors import CheckpointError
from merging.planning.build import plan
from tests import tiny
from tests.planning.models import TIES, changed, models, problem, problems


def test_sources_that_do_not_exist_are_all_reported(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(TIES)
    listed = problems(str(recipe), {})
    assert [type(each) for each in listed] == [CheckpointError] * 3
    assert "recipe.yaml line 4" in str(listed[0].where)


def test_sources_are_looked_for_beside_the_recipe(tmp_path: Path) -> None:
    tiny.family(tmp_path, "llama", models=2)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(TIES.replace("[{model: a}, {model: b}]", "[{model: tuned-1}, {model: tuned-2}]"))
    made = plan(recipe)
    assert len(made.jobs) == 21 and made.sidecars == 2
    assert made.recipe["models"] == [{"model": "tuned-1"}, {"model": "tuned-2"}]


@pytest.mark.parametrize(
    ("config", "tensors", "said"),
    [
        ({"quantization_config": {"quant_method": "awq"}}, {}, "awq"),
        ({"quantization_config": {"load_in_4bit": True}}, {}, "bitsandbytes"),
        ({}, {"model.layers.0.mlp.up_proj.qweight": torch.ones(4, 4, dtype=torch.int32)}, "GPTQ"),
        (
            {},
            {
                "model.layers.0.mlp.up_proj.weight": torch.ones(112, 64).to(torch.float8_e4m3fn),
                "model.layers.0.mlp.up_proj.weight_scale_inv": torch.ones(1, 1),
            },
            "fp8 with scales",
        ),
        ({}, {"experts_blocks": torch.ones(4, dtype=torch.uint8), "experts_scales": torch.ones(1)}, "MXFP4"),
    ],
)
def test_quantised_models_are_refused_with_advice(
    config: dict[str, Any], tensors: dict[str, Tensor], said: str
) -> None:
    found = models()
    found["a"] = changed(found["a"], lambda held: held | tensors, **config)
    text = problem(TIES, found)
    assert f"a is quantised ({said}" in text and "dequantise" in text


def test_scales_of_their_own_are_not_taken_for_quantisation() -> None:
    extra = {"model.layers.0.mlp.up_proj.weight_scale": torch.ones(3), "post_blocks": torch.ones(2)}
    found = {key: changed(model, lambda held: held | extra) for key, model in models().items()}
    assert len(plan(TIES, checkpoints=found).jobs) == 23


def test_float8_without_scales_is_merged() -> None:
    found = {key: changed(model, lambda held: tiny.cast(held, torch.float8_e5m2)) for key, model in models().items()}
    assert {job.spec.dtype for job in plan(TIES, checkpoints=found).jobs} == {"F8_E5M2"}


def test_an_empty_checkpoint_is_refused() -> None:
    assert "a holds no tensors" in problem(TIES, models() | {"a": MemoryCheckpoint({}, {}, "a")})
