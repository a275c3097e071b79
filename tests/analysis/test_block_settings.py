from __future__ import annotations

import json
from functools import cache
from math import cos, pi

import pytest
from hypothesis import given
from hypothesis import settings as examples

from merging.analysis.block_settings import block_settings
from merging.analysis.block_text import BLOCK_PRESETS, preset, read_block_weights
from merging.analysis.blocks import BlockWeights
from merging.analysis.diagnose import diagnose
from merging.checkpoint.tensors import MemoryCheckpoint
from merging.planning.build import plan
from merging.recipe.text import read_recipe, recipe_from_data
from tests.analysis.strategies import block_weights, checkpoint, placed
from tests.tiny_shapes import normal


def planned(kind, weight):
    """The weight of every merged tensor, once the recipe was written as text and planned."""
    return planned_on(checkpoint(kind), weight)


def planned_on(base, weight):
    data = {
        "models": [{"model": "tuned", "parameters": {"weight": weight}}],
        "merge_method": "task_arithmetic",
        "base_model": "base",
    }
    recipe = read_recipe(recipe_from_data(data).text())
    jobs = plan(recipe, checkpoints={"base": base, "tuned": base}).jobs
    return {job.spec.name: job.parameters["weight"][0] for job in jobs if job.rule == "merge"}


def said(weights):
    return {each.name: value for each, value in zip(weights.tensors, weights.per_tensor(), strict=True)}


def written(text, kind="llama", **options):
    return block_settings(read_block_weights(text, placed(kind), **options))


@given(block_weights())
@examples(max_examples=60)
def test_planning_gives_every_tensor_the_weight_of_its_block(drawn):
    kind, weights = drawn
    found = planned(kind, block_settings(weights))
    assert {name: found[name] for name in said(weights)} == said(weights)


@pytest.mark.parametrize("name", BLOCK_PRESETS)
@pytest.mark.parametrize("kind", ["llama", "t5", "bert", "invented"])
def test_presets_are_planned_as_they_are(name, kind):
    weights = preset(name, placed(kind))
    assert planned(kind, block_settings(weights)).items() >= said(weights).items()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5", 0.5),
        ("0,0.2,0.5,1", [0.0, 0.2, 0.5, 1.0]),
        ("attention=0.3; mlp=0.3; 0.3", 0.3),
        ("0.7; attention=0.3", [{"filter": "attn", "value": 0.3}, {"value": 0.7}]),
        ("0.7; mlp=0,1", [{"filter": "mlp", "value": [0.0, 1.0]}, {"value": 0.7}]),
        ("1; 1=0.5", [{"filter": ".1.", "value": 0.5}, {"value": 1.0}]),
        ("1; head=0", [{"filter": "head", "value": 0.0}, {"value": 1.0}]),
        ("0,1; head=1", [{"filter": "head", "value": 1.0}, {"value": [0.0, 1.0]}]),
        ("attention=0.3", [{"filter": "attn", "value": 0.3}, {"value": 1.0}]),
    ],
)
def test_the_form_is_the_short_one_that_a_person_would_write(text, expected):
    assert written(text) == expected


def test_layer_one_is_never_taken_for_layer_eleven():
    found = planned("llama", written("1; 1 mlp=0.5; 11 attention=0.25"))
    assert sum(value == 0.5 for value in found.values()) == 3
    assert sum(value == 0.25 for value in found.values()) == 4


def test_names_that_contain_each_other_are_told_apart():
    weights = read_block_weights(
        "1; /^out.weight$/=0.5; /blocks.3.attn.out.weight/=0.25", placed("invented"), by="tensor"
    )
    assert planned("invented", block_settings(weights)) == said(weights)


def test_a_random_weight_for_every_block_takes_one_curve_for_every_part():
    weights = BlockWeights.of(placed("llama"))
    numbers = normal((len(weights.blocks),), "blocks", 0).double().tolist()
    weights = BlockWeights(weights.tensors, tuple(numbers))
    found = block_settings(weights)
    assert len(found) <= 7
    assert planned("llama", found) == said(weights)


@cache
def deep(layers):
    """Names of a model of many layers, a quarter of them with experts."""
    names = ["embed.weight", "head.weight"]
    for layer in range(layers):
        names += [f"model.layers.{layer}.{part}.weight" for part in ("attn.q", "attn.k", "attn.v", "attn.o", "norm")]
        parts = [f"experts.{i}" for i in range(4)] if layer % 4 == 3 else ["mlp"]
        names += [f"model.layers.{layer}.{part}.{side}.weight" for part in parts for side in ("up", "down")]
    return MemoryCheckpoint({name: normal((1,), name, 0) for name in names}, {}, "base")


@pytest.mark.parametrize("layers", [50, 62, 99])
def test_deep_models_are_said_exactly_too(layers):
    base = deep(layers)
    tensors = diagnose([base], base, cache=False, workers=1).tensors
    weights = read_block_weights("cosine(0,1); mlp=0,0.2,0.9; 3-9 norm=7", tensors)
    found = block_settings(weights)
    assert planned_on(base, found) == said(weights)
    assert json.loads(json.dumps(found)) == found


def test_layers_that_rounding_keeps_from_their_value_take_a_filter_of_their_own():
    base = deep(48)
    tensors = diagnose([base], base, cache=False, workers=1).tensors
    values = [round(0.5 - 0.5 * cos(pi * (block.layer or 0) / 47), 6) for block in BlockWeights.of(tensors).blocks]
    weights = BlockWeights(tensors, tuple(values))
    found = block_settings(weights)
    assert len(found) < 10
    assert planned_on(base, found) == said(weights)
