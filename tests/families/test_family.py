from __future__ import annotations

from dataclasses import replace

import pytest

from merging.families.family import GENERIC, recognise
from merging.methods.declare import is_matrix
from tests.families.names import EXAMPLES, Example

each_example = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)


@each_example
def test_a_config_names_its_family(example: Example) -> None:
    assert recognise(example.config, example.names).name == example.family


@each_example
def test_names_alone_find_the_family_and_its_layers(example: Example) -> None:
    family = recognise({}, example.names)
    assert family.name == example.family or example.family in ("gemma", "llama")
    assert family.stacks == example.stacks


@each_example
def test_every_name_has_a_role_and_a_part(example: Example) -> None:
    family = recognise(example.config, example.names)
    unknown = [name for name in example.names if not family.place(name).role]
    assert unknown == []
    assert {family.place(name).part for name in example.names} == {"before", "layer", "after"}


@each_example
def test_layers_are_counted_per_stack_and_found_in_the_config(example: Example) -> None:
    family = recognise(example.config, example.names)
    assert family.stacks == example.stacks
    assert family.layers == sum(example.stacks.values())
    assert tuple(family.count_key(stack) for stack in family.stacks) == example.count_keys


@each_example
def test_the_generic_rules_find_the_same_layers_as_the_family_file(example: Example) -> None:
    known, generic = recognise(example.config, example.names), recognise({"model_type": "unheard_of"}, example.names)
    assert generic.name == GENERIC
    for name in example.names:
        assert generic.place(name).layer == known.place(name).layer, name
    assert sorted(generic.stacks.values()) == sorted(known.stacks.values())


@each_example
def test_the_generic_rules_put_embeddings_before_and_heads_after_the_layers(example: Example) -> None:
    known, generic = recognise(example.config, example.names), recognise({"model_type": "unheard_of"}, example.names)
    for name in example.names:
        role = known.place(name).role
        if role.startswith("embedding") or role.startswith("head") or role == "classifier":
            assert generic.place(name).part == known.place(name).part, name


@each_example
def test_the_generic_rules_take_the_same_tensors_for_tables(example: Example) -> None:
    """The largest tensors of a language model must not be decomposed because nobody knows its type."""
    known, generic = recognise(example.config, example.names), recognise({"model_type": "unheard_of"}, example.names)
    weights = [name for name in example.names if not name.endswith("bias") and "norm" not in name.lower()]
    for name in weights:
        assert is_matrix((8, 8), generic.place(name).role) == is_matrix((8, 8), known.place(name).role), name


@each_example
def test_renaming_to_another_layer_and_back_is_the_identity(example: Example) -> None:
    family = recognise(example.config, example.names)
    for name in example.names:
        place = family.place(name)
        if place.layer is not None:
            moved = family.rename(name, 17)
            assert family.place(moved) == replace(place, layer=17)
            assert family.rename(moved, place.layer) == name


@each_example
def test_fractions_run_from_0_to_1_within_each_stack(example: Example) -> None:
    family = recognise(example.config, example.names)
    for stack in family.stacks:
        found = {family.fraction(name) for name in example.names if family.place(name).stack == stack}
        assert min(found) == 0 and max(found) == 1
    assert all(family.fraction(name) == 0 for name in example.names if family.place(name).layer is None)


def test_one_layer_lies_at_fraction_1() -> None:
    family = recognise(EXAMPLES["llama"].config, [name for name in EXAMPLES["llama"].names if ".1." not in name])
    alone = [name for name in EXAMPLES["llama"].names if ".1." not in name and ".2." not in name]
    assert family.layers == 3
    assert recognise(EXAMPLES["llama"].config, alone).fraction("model.layers.0.mlp.up_proj.weight") == 1


@pytest.mark.parametrize(
    ("example", "told", "name", "partner"),
    [
        ("llama", True, "lm_head.weight", "model.embed_tokens.weight"),
        ("llama", None, "lm_head.weight", None),
        ("gemma2", None, "lm_head.weight", "model.embed_tokens.weight"),
        ("gemma2", False, "lm_head.weight", None),
        ("gpt2", None, "lm_head.weight", "transformer.wte.weight"),
        ("t5", None, "lm_head.weight", "shared.weight"),
        ("t5", False, "lm_head.weight", None),
        ("t5", False, "encoder.embed_tokens.weight", "shared.weight"),
        ("bert", None, "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("bert", False, "cls.predictions.decoder.bias", "cls.predictions.bias"),
        ("roberta", None, "lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
        ("headless bert", None, "cls.predictions.decoder.weight", "embeddings.word_embeddings.weight"),
    ],
)
def test_ties_follow_the_config_or_the_family(example: str, told: bool | None, name: str, partner: str | None) -> None:
    config = {key: value for key, value in EXAMPLES[example].config.items() if key != "tie_word_embeddings"}
    config |= {} if told is None else {"tie_word_embeddings": told}
    assert recognise(config, EXAMPLES[example].names).ties.get(name) == partner


def test_an_unknown_architecture_ties_what_its_config_says() -> None:
    config = {"model_type": "unheard_of", "tie_word_embeddings": True}
    names = ["model.embed_tokens.weight", "model.blocks.0.w", "model.blocks.1.w"]
    assert recognise(config, names).ties == {"lm_head.weight": "model.embed_tokens.weight"}
    assert recognise({"model_type": "unheard_of"}, names).ties == {}


def test_a_tensor_the_file_does_not_know_still_has_its_layer() -> None:
    example = EXAMPLES["llama"]
    family = recognise(example.config, [*example.names, "model.layers.1.self_attn.q_proj.lora.scale", "score.weight"])
    assert family.place("model.layers.1.self_attn.q_proj.lora.scale").layer == 1
    assert family.place("score.weight").part == "after"
    assert family.stacks == {"": 3}


def test_a_second_stack_beside_a_known_one_is_seen() -> None:
    example = EXAMPLES["llama"]
    vision = [f"vision_tower.blocks.{i}.{part}.weight" for i in range(5) for part in ("attn", "mlp", "norm")]
    assert recognise(example.config, [*example.names, *vision]).stacks == {"": 3, "vision_tower.blocks": 5}


def test_a_config_that_does_not_fit_the_names_is_not_believed() -> None:
    family = recognise({"model_type": "llama"}, EXAMPLES["vit"].names)
    assert family.name == GENERIC and family.layers == 3


def test_a_small_numbered_head_is_no_stack_of_layers() -> None:
    names = [f"encoder.layer.{i}.{part}" for i in range(12) for part in ("a", "b", "c")]
    family = recognise({"model_type": "unheard_of"}, [*names, "classifier.0.weight", "classifier.2.weight"])
    assert family.stacks == {"": 12}
    assert family.place("classifier.2.weight").layer is None


def test_a_number_that_never_changes_is_no_layer() -> None:
    names = [f"0.auto_model.encoder.layer.{i}.{part}" for i in range(4) for part in ("a", "b")]
    family = recognise({"model_type": "unheard_of"}, names)
    assert family.stacks == {"": 4}
    assert family.rename("0.auto_model.encoder.layer.2.a", 7) == "0.auto_model.encoder.layer.7.a"


def test_buffers_are_known_in_unknown_architectures_too() -> None:
    names = [f"model.blocks.{i}.{part}" for i in range(4) for part in ("w", "attn.rotary_emb.inv_freq")]
    family = recognise({"model_type": "unheard_of"}, names)
    assert family.place("model.blocks.2.attn.rotary_emb.inv_freq").role == "buffer"
    assert family.place("model.blocks.2.w").role == ""


def test_a_model_without_numbers_has_no_layers() -> None:
    family = recognise({}, ["weight", "bias"])
    assert (family.name, family.layers, dict(family.stacks)) == (GENERIC, 0, {})
    assert family.count_key() is None


def test_fifty_thousand_names_are_placed() -> None:
    shapes = [
        f"model.layers.{i}.mlp.experts.{e}.{part}_proj.weight" for i in range(64) for e in range(256) for part in MLP
    ]
    family = recognise({"model_type": "qwen3_moe"}, shapes)
    assert family.stacks == {"": 64}
    assert {family.place(name).role for name in shapes} == {"expert.gate", "expert.up", "expert.down"}


MLP = ("gate", "up", "down")
