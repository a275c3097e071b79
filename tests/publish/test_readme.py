from __future__ import annotations

import pytest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from merging.publish.card import write_card
from merging.publish.readme import is_ours, with_card
from tests.publish.toys import HOSTILE, config, ledger, record

CARD = write_card(record(), ledger(), "me/mix", config=config())
OTHER = write_card(record(("bob/code", "eve/style"), base=None), ledger(), "me/mix", config=config())
OURS = with_card(None, CARD)[0]
LINES = st.lists(
    st.sampled_from(
        ["---", "# Title", "text", "license: mit", "", "tags:", "- a", "```", "<!-- note -->", "{a: 1}", "\ta"]
    )
).map("\n".join)


def data(text):
    return ModelCard(text).data.to_dict()


def body(card):
    return card.split("\n---\n", 1)[1].strip()


def test_a_repository_without_a_readme_gets_the_card_between_marks():
    readme, merge = with_card(None, CARD)
    assert merge is None and is_ours(readme) and body(CARD) in readme
    assert data(readme) == data(CARD)


def test_an_empty_readme_is_none():
    assert with_card(" \n", CARD) == with_card(None, CARD)


def test_a_card_put_in_twice_is_there_once():
    assert with_card(OURS, CARD) == (OURS, None)


def test_a_newer_card_takes_the_place_of_the_older_one_with_its_metadata():
    readme, merge = with_card(OURS, OTHER)
    assert merge is None and body(OTHER) in readme and body(CARD) not in readme
    assert data(readme) == data(OTHER)


@given(LINES, LINES)
def test_what_a_person_wrote_around_the_card_stays_letter_by_letter(before, after):
    front, rest = OURS.split("\n---\n", 1)
    readme, merge = with_card(f"{front}\n---\n{before}\n{rest}{after}", OTHER)
    assert merge is None and readme.count(body(OTHER)) == 1 and body(CARD) not in readme
    assert readme.endswith(f"<!-- merging:card end -->\n{after}") and f"\n---\n{before}\n\n<!-- merging:card" in readme


def test_metadata_that_a_person_changed_or_added_is_theirs_for_good():
    edited = OURS.replace("license: apache-2.0", "license: mit\nlanguage: de")
    for _ in range(2):
        edited, _ = with_card(edited, OTHER)
    assert data(edited)["license"] == "mit" and data(edited)["language"] == "de"
    assert data(edited)["base_model"] == data(OTHER)["base_model"]


def test_metadata_that_a_person_removed_does_not_come_back():
    edited = OURS.replace("license: apache-2.0\n", "")
    for _ in range(2):
        edited, _ = with_card(edited, OTHER)
        assert "license" not in data(edited)


def test_a_relation_is_not_said_of_another_base_model_than_ours():
    edited, _ = with_card(OURS.replace("base_model: [ada/math,", "base_model: [me/own,"), OTHER)
    assert data(edited)["base_model"][0] == "me/own" and "base_model_relation" not in data(edited)


def test_metadata_without_text_as_the_hub_makes_it_keeps_its_values_under_the_card():
    readme, merge = with_card("---\nlicense: mit # mine\n---\n", CARD)
    assert merge is None and body(CARD) in readme and "license: mit # mine\n" in readme
    assert data(readme) == {**data(CARD), "license": "mit"}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_readme_of_a_person_keeps_every_letter_and_the_card_goes_beside_it(line_end):
    own = "---\n# chosen with care\nlicense:   mit\ntags:\n  - poetry\n---\n# My model\n\nIt rhymes.\n".replace(
        "\n", line_end
    )
    readme, merge = with_card(own, CARD)
    assert is_ours(merge) and body(CARD) in merge and not merge.startswith("---")
    head, text = own.rsplit(f"{line_end}---{line_end}", 1)
    assert readme.startswith(head) and readme.endswith(text)
    found = data(readme)
    assert (found["license"], found["tags"]) == ("mit", ["poetry"])
    assert (found["base_model"], found["base_model_relation"]) == (data(CARD)["base_model"], "merge")
    assert with_card(readme, CARD)[0] == readme


def test_a_person_who_states_no_licence_is_given_none():
    readme, _ = with_card("# My model\n", CARD)
    assert readme.endswith("\n\n# My model\n") and "license" not in data(readme)
    assert data(readme)["base_model"] == data(CARD)["base_model"]


def test_a_person_who_named_a_base_model_keeps_it_without_a_word_of_ours_on_it():
    readme, _ = with_card("---\nbase_model: me/own\ntags: [x]\n---\nText\n", CARD)
    assert readme == "---\nbase_model: me/own\ntags: [x]\n---\nText\n"


@pytest.mark.parametrize(
    "front",
    [
        "---\n{license: mit}\n---\n",
        "---\na: [\n---\n",
        "---\n- a\n---\n",
        "---\n# only a remark\n---\n",
        "---\na: 1\na: 2\n---\n",
    ],
)
def test_metadata_that_cannot_be_added_to_with_certainty_is_left_alone(front):
    readme, merge = with_card(front + "Text\n", CARD)
    assert readme == front + "Text\n" and is_ours(merge)


@given(LINES)
def test_no_readme_of_a_person_loses_its_text(own):
    readme, merge = with_card(own, CARD)
    text = own.split("---\n")[-1]
    assert readme.endswith(text) or merge is None
    assert is_ours(readme) if merge is None else is_ours(merge)


def test_a_card_of_which_half_is_left_is_a_person_s_text():
    half = OURS[: OURS.index("<!-- merging:card end -->")]
    readme, merge = with_card(half, OTHER)
    assert is_ours(merge) and body(CARD) in readme


@pytest.mark.parametrize("odd", HOSTILE)
def test_a_model_s_name_cannot_end_the_card(odd):
    odd_record = record((odd, "bob/code"))
    card = write_card(odd_record, ledger(), "me/mix", config=config())
    readme = with_card(None, card)[0] + "My own words.\n"
    again, merge = with_card(readme, CARD)
    assert merge is None and again == OURS + "My own words.\n"
