from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.publish.shares import EMBEDDING, HEAD, REST, read_shares
from tests.publish.toys import config, copied_row, ledger, linear_row, row

UP = "model.layers.{}.mlp.up_proj.weight"


def column(shares, label):
    return next(each for each in shares.columns if each.label == label)


def test_columns_go_from_the_embeddings_through_the_layers_to_the_head():
    rows = [row(name, [1.0]) for name in ("lm_head.weight", "model.norm.weight", UP.format(10), UP.format(2))]
    shares = read_shares([*rows, row("model.embed_tokens.weight", [1.0])], config())
    assert [each.label for each in shares.columns] == [EMBEDDING, "2", "10", REST, HEAD]


def test_the_stacks_of_an_encoder_and_a_decoder_are_kept_apart():
    names = [f"{part}.block.{i}.layer.0.SelfAttention.q.weight" for part in ("decoder", "encoder") for i in (0, 1)]
    shares = read_shares([row(name, [1.0]) for name in names], {"model_type": "t5"})
    assert [(each.stack, each.label) for each in shares.columns] == [
        ("encoder", "0"),
        ("encoder", "1"),
        ("decoder", "0"),
        ("decoder", "1"),
    ]


def test_a_share_is_a_part_of_the_change_weighted_by_how_far_each_tensor_moved():
    rows = [
        row(UP.format(0), [3.0, 1.0], norm=2.0),
        row("model.layers.0.mlp.down_proj.weight", [0.0, 5.0], norm=1.0),
    ]
    found = column(read_shares(rows, config()), "0")
    assert found.shares == pytest.approx({0: (4 * 0.75) / 5, 1: (4 * 0.25 + 1) / 5})
    assert found.change == pytest.approx((5 / 64) ** 0.5)


def test_a_linear_method_tells_shares_by_length_and_the_sign_of_the_weight():
    found = column(read_shares([linear_row(UP.format(0), [0.5, -1.0], [2.0, 3.0])], config()), "0")
    assert found.shares == pytest.approx({0: 0.25, 1: -0.75})


def test_without_a_base_model_the_coefficients_tell_and_the_first_model_is_not_lost():
    rows = [linear_row(UP.format(0), [0.7, 0.3], [0.0, 1.0], base=False)]
    shares = read_shares(rows, config())
    assert not shares.of_changes
    assert column(shares, "0").shares == pytest.approx({0: 0.7, 1: 0.3})


def test_without_a_base_model_copied_weights_count_in_the_whole():
    rows = [copied_row(UP.format(0), 0), linear_row(UP.format(1), [0.5, 0.5], [0.0, 1.0], base=False)]
    shares = read_shares(rows, config())
    assert shares.totals == pytest.approx({0: 0.75, 1: 0.25})
    assert [each.kind for each in shares.columns] == ["copied", "merged"]


def test_what_no_model_changed_is_still_and_not_copied():
    shares = read_shares(ledger(), config())
    assert (column(shares, EMBEDDING).kind, column(shares, EMBEDDING).shares) == ("still", {})
    assert column(shares, REST).kind == "copied"


def test_a_model_that_stands_twice_in_a_tensor_is_one_model():
    one = linear_row(UP.format(0), [0.7, 0.3], [0.0, 1.0], base=False)
    for operand in one["operands"]:
        operand["model"] = 0
    assert read_shares([one], config()).totals == pytest.approx({0: 1.0})


@given(st.lists(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=2, max_size=2), max_size=8))
def test_absolute_shares_of_any_numbers_never_exceed_one(values):
    rows = [row(UP.format(i), pair, norm=abs(pair[0])) for i, pair in enumerate(values)]
    shares = read_shares(rows, config())
    for each in (*(column.shares for column in shares.columns), shares.totals):
        assert sum(map(abs, each.values())) <= 1 + 1e-9
