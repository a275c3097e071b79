from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from merging.analysis.blocks import BlockWeights, Selection, blocks, coefficients
from merging.analysis.curves import Curve, read_curve
from merging.analysis.diagnose import Placed
from merging.errors import MergingError
from tests.analysis.strategies import kinds, placed


def named(kind):
    return {block.name: block for block in blocks(placed(kind))}


@given(kinds)
@settings(max_examples=7)
def test_every_tensor_is_in_one_block_and_entries_add_up(kind):
    tensors = placed(kind)
    for by in ("part", "tensor"):
        found = blocks(tensors, by)
        assert sorted(i for block in found for i in block.tensors) == list(range(len(tensors)))
        assert sum(block.entries for block in found) == sum(each.entries for each in tensors)
        assert len({block.name for block in found}) == len(found)


def test_a_llama_has_attention_mlp_and_norm_in_every_layer_between_embedding_and_head():
    found = list(named("llama"))
    assert found[:4] == ["embedding", "0 attention", "0 mlp", "0 norm"]
    assert found[-2:] == ["outer norm", "head"]
    assert len(found) == 3 + 3 * 12
    tensors = placed("llama")
    inside = [tensors[i].name.split(".")[-2] for i in named("llama")["11 mlp"].tensors]
    assert inside == ["gate_proj", "up_proj", "down_proj"]


def test_stacks_are_told_apart_by_name():
    found = named("t5")
    assert {"shared embedding", "encoder 0 attention", "decoder 1 mlp", "encoder outer norm"} <= set(found)
    assert not any(name.startswith("0") for name in found)


def test_names_alone_tell_the_parts_of_unknown_architectures():
    found, tensors = named("invented"), placed("invented")

    def inside(name):
        return {tensors[i].name.removeprefix("blocks.12.") for i in found[name].tensors}

    assert inside("12 attention") == {"attn.qkv.weight", "attn.qkv.bias", "attn.out.weight"}
    assert inside("12 norm") == {"attn.q_norm.weight"}
    assert inside("12 mlp") == {"ffn.w1", "ffn.w2"}
    assert inside("12 other") == {"gain"}


@pytest.mark.parametrize(
    ("name", "layer", "part"),
    [
        ("h.3.attn.c_attn.weight", 3, "attention"),
        ("h.3.ln_1.weight", 3, "norm"),
        ("h.3.mlp.c_fc.weight", 3, "mlp"),
        ("layers.2.self_attn.k_norm.weight", 2, "norm"),
        ("layers.2.feed_forward.w2.weight", 2, "mlp"),
        ("layers.2.wo.weight", 2, "attention"),
        ("layers.2.block_sparse_moe.experts.7.w1", 2, "mlp"),
        ("blocks.2.ffn.key.weight", 2, "mlp"),
        ("blocks.2.att.key.weight", 2, "attention"),
        ("blocks.2.drop_path.scale", 2, "other"),
        ("layers.2.head_scale", 2, "other"),
        ("pos_embed", None, "embedding"),
        ("patch_embed.norm.weight", None, "norm"),
        ("lm_head.weight", None, "head"),
        ("embed_out.weight", None, "head"),
        ("logit_scale", None, "other"),
    ],
)
def test_parts_of_names_as_other_projects_write_them(name, layer, part):
    role = name.rpartition(f".{layer}.")[2]
    (block,) = blocks([Placed(name, (2,), 2, "", layer, role)])
    assert block.part == part


def test_a_selection_counts_blocks_tensors_and_entries():
    weights = BlockWeights.of(placed("llama"))
    chosen = weights.select(Selection(layers=((2, 4), (7, 7)), parts=("attention", "mlp")))
    assert (len(chosen.blocks), chosen.tensors) == (8, 4 * 7)
    assert chosen.entries == sum(weights.blocks[i].entries for i in chosen.blocks)
    assert weights.select(Selection()).tensors == len(placed("llama"))
    assert weights.select(Selection(outer=True)).tensors == 3
    assert weights.select(Selection(parts=("norm",), pattern=r"layers\.(1|11)\.")).tensors == 4


def test_a_pattern_that_cuts_a_block_is_refused_until_every_tensor_is_a_block():
    weights = BlockWeights.of(placed("llama"))
    with pytest.raises(MergingError, match="matches 1 of 4 tensors of 0 attention"):
        weights.set(Selection(pattern="q_proj"), 0.5)
    fine = weights.refined().set(Selection(pattern="q_proj"), 0.5)
    assert [
        value for tensor, value in zip(placed("llama"), fine.per_tensor(), strict=True) if "q_proj" in tensor.name
    ] == [0.5] * 12
    assert fine.per_tensor().count(0.5) == 12
    with pytest.raises(MergingError, match="no regular expression"):
        weights.select(Selection(pattern="("))


def test_setting_adding_and_multiplying_change_what_is_selected_and_nothing_else():
    start = BlockWeights.of(placed("llama"), plain=0.4)
    attention = Selection(parts=("attention",))
    changed = start.multiply(attention, 0.5).add(attention, 0.1).set(Selection(parts=("head",)), 2)
    by_name = {block.name: value for block, value in zip(changed.blocks, changed.values, strict=True)}
    assert by_name["3 attention"] == 0.3
    assert by_name["head"] == 2
    assert by_name["3 mlp"] is None
    assert set(changed.per_tensor()) == {0.3, 2.0, 0.4}
    assert changed.set(Selection(), None) == start


def test_a_curve_runs_over_the_selected_layers_and_stands_still_outside_them():
    weights = BlockWeights.of(placed("llama")).set(Selection(), Curve((0.0, 1.0)))
    by_name = {block.name: value for block, value in zip(weights.blocks, weights.values, strict=True)}
    assert [by_name[f"{layer} mlp"] for layer in range(12)] == [layer / 11 for layer in range(12)]
    assert by_name["embedding"] == by_name["head"] == 0.0
    some = weights.set(Selection(layers=((4, 6),)), read_curve("5,7"))
    by_name = {block.name: value for block, value in zip(some.blocks, some.values, strict=True)}
    assert [by_name[f"{layer} mlp"] for layer in range(3, 8)] == [3 / 11, 5.0, 6.0, 7.0, 7 / 11]


def test_coefficients_are_the_weights_of_every_tensor_by_model():
    one = BlockWeights.of(placed("t5"), 0.3)
    other = one.set(Selection(parts=("mlp",)), 0.9)
    table = coefficients([one, other])
    assert table.shape == (len(placed("t5")), 2)
    assert table.dtype == torch.float64
    assert table[:, 0].tolist() == list(one.per_tensor())
    assert table[:, 1].tolist() == list(other.per_tensor())
    with pytest.raises(MergingError, match="different tensors"):
        coefficients([one, BlockWeights.of(placed("vit"))])


def test_weights_that_are_no_numbers_or_too_few_are_refused():
    with pytest.raises(MergingError, match="not a finite number"):
        BlockWeights.of(placed("vit")).set(Selection(), float("inf"))
    with pytest.raises(MergingError, match="no weights of"):
        BlockWeights(placed("vit"), (1.0,))
