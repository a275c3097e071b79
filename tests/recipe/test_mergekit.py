"""The dialect: every way of writing a thing has one canonical form."""

from __future__ import annotations

import pytest

from merging.errors import RecipeError
from merging.recipe.recipe import ModelEntry, Recipe, Setting, Slice, SliceSource
from merging.recipe.text import read_recipe

REST = "merge_method: linear\n"


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("org/model", "org/model"),
        ("model:org/model", "org/model"),
        ("../a@main+b@v1", "../a@main+b@v1"),
        ("{model: a}", "a"),
        ("{model: {path: a}}", "a"),
        ("{model: {path: a, revision: main}}", "a@main"),
        ("{model: {path: a, revision: ~}, lora: ~}", "a"),
        ("{model: {path: a}, lora: {path: b, revision: v1}}", "a+b@v1"),
        ("{model: 'model:a', lora: b}", "a+b"),
    ],
)
def test_references_have_one_spelling(written: str, canonical: str) -> None:
    assert read_recipe(f"models:\n- model: {written}\n{REST}").models == (ModelEntry(canonical),)
    assert read_recipe(f"models:\n- model: x\nbase_model: {written}\n{REST}").base_model == canonical


def test_slices_are_read_whole() -> None:
    text = """
slices:
- sources:
  - model: a
    layer_range: [0, 4]
    parameters: {weight: 1}
  - {model: b, layer_range: [2, 6]}
  base_model: a
  parameters: {weight: 2}
merge_method: linear
"""
    sources = (SliceSource("a", (0, 4), {"weight": (Setting(1),)}), SliceSource("b", (2, 6)))
    assert read_recipe(text).slices == (Slice(sources, {"weight": (Setting(2),)}, "a"),)


@pytest.mark.parametrize(
    ("written", "settings"),
    [
        ("0.5", (Setting(0.5),)),
        ("[0.5]", (Setting(0.5),)),
        ("[0, 1]", (Setting((0, 1)),)),
        ("{value: 0.5}", (Setting(0.5),)),
        ("{value: [0, 1], filter: mlp}", (Setting((0, 1), "mlp"),)),
        ("[{value: 1, filter: mlp}, {value: 2}]", (Setting(1, "mlp"), Setting(2))),
        ("[{value: 1, filter: '*'}]", (Setting(1),)),
        ("1e-10", (Setting(1e-10),)),
        ("[1e-3, '2']", (Setting((0.001, 2)),)),
        ("yes", (Setting(True),)),
        ("exact", (Setting("exact"),)),
    ],
)
def test_settings_have_one_form(written: str, settings: tuple[Setting, ...]) -> None:
    recipe = read_recipe(f"models:\n- model: a\nparameters:\n  x: {written}\n{REST}")
    assert recipe.parameters == {"x": settings}


@pytest.mark.parametrize(
    "block", ["parameters:\n", "base_model: ~\n", "dtype:\n", "tokenizer_source:\n", "slices: ~\n"]
)
def test_empty_optional_blocks_are_absent_ones(block: str) -> None:
    assert read_recipe(f"models:\n- model: a\n{REST}{block}") == Recipe("linear", (ModelEntry("a"),))


@pytest.mark.parametrize(
    ("written", "dtype"),
    [
        ("bfloat16", "BF16"),
        ("torch.bfloat16", "BF16"),
        ("float16", "F16"),
        ("float32", "F32"),
        ("torch.float64", "F64"),
    ],
)
def test_dtypes_are_safetensors_names(written: str, dtype: str) -> None:
    recipe = read_recipe(f"models:\n- model: a\n{REST}dtype: {written}\nout_dtype: {written}\n")
    assert (recipe.dtype, recipe.out_dtype) == (dtype, dtype)


def test_one_model_may_be_listed_twice() -> None:
    assert len(read_recipe(f"models:\n- model: a\n- model: a\n{REST}").models) == 2


@pytest.mark.parametrize("written", ["tokenizer_source: b", "tokenizer_source: model:b", "tokenizer: {source: b}"])
def test_the_tokenizer_may_be_that_of_any_model_of_the_recipe(written: str) -> None:
    assert read_recipe(f"models:\n- model: a\n- model: b\n{REST}{written}\n").tokenizer_source == "b"


def test_the_tokenizer_may_be_that_of_the_base_model() -> None:
    text = f"models:\n- model: a\n{REST}base_model: c\n"
    assert read_recipe(text + "tokenizer_source: base\n").tokenizer_source == "base"
    assert read_recipe(text + "tokenizer_source: c\n").tokenizer_source == "c"


def test_additions_to_the_dialect_are_read() -> None:
    recipe = read_recipe(
        f"models:\n- model: a\nbase_model: b\nseed: 7\nmissing_tensors: base\nextra_tensors: copy\n{REST}"
    )
    assert (recipe.seed, recipe.missing_tensors, recipe.extra_tensors) == (7, "base", "copy")
    plain = read_recipe(f"models:\n- model: a\n{REST}")
    assert (plain.seed, plain.missing_tensors, plain.extra_tensors) == (0, "refuse", "refuse")


def test_sources_are_named_once_in_order_of_mention() -> None:
    recipe = read_recipe(f"models:\n- model: b\n- model: a\n- model: b\nbase_model: c\n{REST}")
    assert recipe.sources() == ("b", "a", "c")


def test_a_recipe_of_nothing_cannot_be_made() -> None:
    with pytest.raises(RecipeError, match="names its inputs once"):
        Recipe("linear")
    with pytest.raises(RecipeError, match="names its inputs once"):
        Recipe("linear", (ModelEntry("a"),), (Slice((SliceSource("a", (0, 1)),)),))
    with pytest.raises(RecipeError, match="gradient over the layers is empty"):
        Setting(())
    with pytest.raises(RecipeError, match="cannot be inf"):
        Setting(float("inf"))
