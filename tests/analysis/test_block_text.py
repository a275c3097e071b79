from __future__ import annotations

import pytest
from hypothesis import given, settings

from merging.analysis.block_text import BLOCK_PRESETS, preset, read_block_weights
from merging.analysis.block_writing import write_block_weights
from merging.errors import MergingError, Problems
from tests.analysis.strategies import block_weights, placed


def read(text, kind="llama", **options):
    weights = read_block_weights(text, placed(kind), **options)
    return {block.name: value for block, value in zip(weights.blocks, weights.values, strict=True)}


def test_items_are_laid_over_each_other():
    found = read("0,0.5,1; attention=0.3; 8- mlp=0.9; embedding head=plain; 0 norm*=2; 11 norm+=0.5", plain=0.7)
    assert found["0 attention"] == found["11 attention"] == 0.3
    assert found["0 mlp"] == 0.0
    assert {found[f"{layer} mlp"] for layer in range(8, 12)} == {0.9}
    assert found["embedding"] is found["head"] is None
    assert (found["0 norm"], found["11 norm"]) == (0.0, 1.5)


def test_words_of_one_kind_are_alternatives_and_kinds_narrow_each_other():
    found = read("2-3 5 outer mlp norm=0.5")
    assert {name for name, value in found.items() if value == 0.5} == {
        *(f"{layer} {part}" for layer in (2, 3, 5) for part in ("mlp", "norm")),
        "outer norm",
    }


def test_stacks_are_words_where_there_are_several():
    found = read("encoder 1=0.5; shared=2; decoder outer=3", "t5")
    assert found["encoder 1 attention"] == 0.5
    assert found["decoder 1 attention"] is None
    assert (found["shared embedding"], found["decoder outer norm"]) == (2.0, 3.0)


def test_a_regular_expression_may_hold_what_the_grammar_uses():
    found = read(r"/layers\.(1|2)\.mlp\.(?=up)/=0.5; /q_proj/ /k_proj/ 3=4", by="tensor")
    assert {name for name, value in found.items() if value == 0.5} == {
        "model.layers.1.mlp.up_proj.weight",
        "model.layers.2.mlp.up_proj.weight",
    }
    assert {name for name, value in found.items() if value == 4} == {
        f"model.layers.3.self_attn.{part}_proj.weight" for part in "qk"
    }
    assert read(r"/naïve\/|;;=/=2", "mixed", by="tensor")["naïve/名前 with spaces"] == 2.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("atention=1", "did you mean 'attention'"),
        ("encoder=1", "'encoder' selects nothing"),
        ("12 mlp=1", "selects no block"),
        ("embedding 3=1", "selects no block"),
        ("/nowhere/=1", "selects no block"),
        ("/(/=1", "no regular expression"),
        ("/q_proj=1", "is not closed"),
        ("mlp=", "no curve"),
        ("mlp=x", "no curve"),
        ("mlp*=plain", "no curve"),
        ("mlp=cosinus(0,1)", "no curve is called"),
        ("/q_proj/=1", "matches 1 of 4"),
    ],
)
def test_what_cannot_be_read_or_selects_nothing_is_refused(text, says):
    with pytest.raises(MergingError) as caught:
        read(text)
    assert says in str(caught.value)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(Problems) as caught:
        read("atention=1; mlp=x; head=1; 40=2")
    assert len(caught.value.problems) == 3


@given(block_weights())
@settings(max_examples=60)
def test_what_is_written_reads_back_as_it_was(drawn):
    kind, weights = drawn
    text = write_block_weights(weights)
    assert read_block_weights(text, placed(kind), plain=weights.plain, by=weights.by) == weights


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "0.5",
        "0,0.2,0.5,1",
        "0.7; attention=0.3",
        "attention mlp=0,1",
        "1; 3 mlp=0.25",
        "1; 3-5 8 mlp=0.25",
        "0.5; head=plain",
        "cosine(0,0.8)",
        "bell(0,1)",
        "0.5; mlp=step(0,1)",
    ],
)
def test_short_lines_are_written_as_they_were_read(text):
    assert write_block_weights(read_block_weights(text, placed("llama"))) == text


def test_a_stack_of_its_own_is_written_by_its_name():
    text = write_block_weights(read_block_weights("1; encoder attention mlp=0.5", placed("t5")))
    assert text == "1; encoder attention mlp=0.5"


@pytest.mark.parametrize("name", BLOCK_PRESETS)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5", "bert", "vit", "invented"])
def test_presets_give_shares_of_one_for_every_architecture(name, kind):
    weights = preset(name, placed(kind))
    assert all(value is not None and 0 <= value <= 1 for value in weights.values)
    # Two layers have no middle.
    assert max(weights.per_tensor()) > 0.95 or (name in ("middle", "hill") and kind in ("t5", "bert", "vit"))


def test_presets_do_what_they_are_called():
    def of(name, block):
        weights = preset(name, placed("llama"))
        return dict(zip((each.name for each in weights.blocks), weights.values, strict=True))[block]

    assert of("ramp_up", "0 mlp") < of("ramp_up", "6 mlp") < of("ramp_up", "11 mlp") == of("ramp_up", "head") == 1
    assert of("ramp_down", "0 mlp") == 1 > of("ramp_down", "11 mlp") == of("ramp_down", "head") == 0
    assert of("early", "1 mlp") == 1 > of("early", "10 mlp") == 0
    assert of("late", "1 mlp") == 0 < of("late", "10 mlp") == 1
    assert of("middle", "6 mlp") == 1 > of("middle", "0 mlp") == of("middle", "11 mlp") == 0
    assert of("u_shape", "0 mlp") == of("u_shape", "11 mlp") == 1 > of("u_shape", "5 mlp")
    assert of("attention_only", "5 attention") == 1 > of("attention_only", "5 mlp") == 0
    assert of("mlp_only", "5 mlp") == 1 > of("mlp_only", "5 attention") == 0


def test_an_unknown_preset_and_one_that_the_model_has_no_part_for_are_refused():
    with pytest.raises(MergingError, match="no preset is called 'u_shap'") as caught:
        preset("u_shap", placed("llama"))
    assert "u_shape" in caught.value.fix
    with pytest.raises(MergingError, match="selects no block"):
        preset("attention_only", placed("mixed"))
