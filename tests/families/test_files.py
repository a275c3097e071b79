"""Laws of the family files, for every file there is."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from merging.families.family import Place, recognise
from merging.families.files import FOLDER, PARTS, by_model_type, file_names, read_family

ROLES = re.compile(
    r"(embedding|embedding\.(position|type|patch|class|mask|projection)|buffer|norm|head|head\.transform|pooler"
    r"|classifier|classifier\.transform|projection|scale|router"
    r"|(attention|cross_attention)\.(query|key|value|output|query_key_value|position|query\.norm|key\.norm)"
    r"|(mlp|expert|shared_expert)\.(gate|up|down|gate_and_up))(\.bias)?"
)

each_file = pytest.mark.parametrize("name", file_names())


def _patterns(name: str) -> list[tuple[str, str, str]]:
    """Part, pattern and role of every line, read without the code under test."""
    part, found = "", []
    for line in (FOLDER / f"{name}.yaml").read_text().splitlines():
        if not line.startswith(" "):
            part = line.partition(":")[0]
        elif part in PARTS:
            pattern, role = line.strip().rsplit(": ", 1)
            found.append((part, pattern, role))
    return found


def _filled(pattern: str) -> str:
    """A name that fits a pattern: layer 5, expert 7."""
    return re.sub(r"\{(\w+)\}", lambda hit: "7" if hit[1] == "e" else "5", pattern)


@each_file
def test_every_line_is_found_under_its_own_name(name: str) -> None:
    file = read_family(name)
    names = [_filled(pattern) for _, pattern, _ in _patterns(name)]
    family = recognise({"model_type": file.model_types[0]}, names)
    for part, pattern, role in _patterns(name):
        place = family.place(_filled(pattern))
        assert (place.part, place.role) == (part, role), pattern
        assert place.layer == (5 if part == "layer" else None), pattern


@each_file
def test_every_line_is_found_without_its_prefix_and_with_the_others(name: str) -> None:
    file = read_family(name)
    for part, pattern, role in _patterns(name):
        for spelling in file.spellings(pattern):
            line = file.find(_filled(spelling))
            assert line is not None and (line.part, line.role) == (part, role), spelling


@each_file
def test_layers_of_a_pattern_belong_to_the_stack_in_its_braces(name: str) -> None:
    file = read_family(name)
    for part, pattern, _ in _patterns(name):
        line = file.find(_filled(pattern))
        assert line is not None
        if part == "layer":
            written = re.search(r"\{(\w+)\}", pattern)
            assert written and line.stack == ("" if written[1] == "i" else written[1])
            assert line.stack in file.counts


@each_file
def test_roles_are_spelled_alike_everywhere(name: str) -> None:
    assert [role for _, _, role in _patterns(name) if not ROLES.fullmatch(role)] == []


@each_file
def test_a_bias_is_named_after_the_weight_it_belongs_to(name: str) -> None:
    roles = {pattern: role for _, pattern, role in _patterns(name)}
    for pattern, role in roles.items():
        weight = roles.get(pattern.removesuffix(".bias") + ".weight")
        if pattern.endswith(".bias") and weight is not None:
            assert role == f"{weight}.bias", pattern


@each_file
def test_tied_tensors_are_lines_of_the_file_with_matching_roles(name: str) -> None:
    file = read_family(name)
    roles = {pattern: role for _, pattern, role in _patterns(name)}
    for tied, partner in (file.ties | file.always_tied).items():
        assert {roles[tied], roles[partner]} in ({"head", "embedding"}, {"embedding"}, {"head.bias"}), tied


def test_no_model_type_has_two_families() -> None:
    claimed = Counter(model_type for name in file_names() for model_type in read_family(name).model_types)
    assert [model_type for model_type, times in claimed.items() if times > 1] == []


def test_the_index_by_model_type_is_what_the_files_say() -> None:
    assert by_model_type() == {each: name for name in file_names() for each in read_family(name).model_types}


def test_a_literal_number_in_a_pattern_is_not_a_layer() -> None:
    file = read_family("t5")
    cross = file.find("decoder.block.5.layer.1.EncDecAttention.q.weight")
    assert cross is not None and cross.role == "cross_attention.query"
    assert file.find("decoder.block.5.layer.0.EncDecAttention.q.weight") is None


def test_only_the_family_that_is_asked_for_is_parsed() -> None:
    read_family.cache_clear()
    recognise({"model_type": "gpt2"}, ["transformer.h.0.ln_1.weight"])
    assert read_family.cache_info().currsize == 1


def test_a_place_outside_the_layers_of_two_stacks_names_its_stack() -> None:
    names = ["encoder.final_layer_norm.weight", "shared.weight", "decoder.block.0.layer.0.layer_norm.weight"]
    family = recognise({"model_type": "t5"}, names)
    assert family.place(names[0]) == Place("after", None, "encoder", "norm")
    assert family.place(names[1]) == Place("before", None, "", "embedding")
