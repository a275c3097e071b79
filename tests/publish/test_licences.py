from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.publish.licence_table import ASK_NOTHING, FITS_INTO, KNOWN, terms
from merging.publish.licences import MIXED, licence_of
from merging.publish.lineage import Parent, read_lineage
from tests.publish.toys import HOSTILE, parent, record


def hub(licence, name="ada/x", **more):
    return Parent(name, name, license=licence, **more)


def text(verdict):
    return "\n".join(verdict.sentences)


@pytest.mark.parametrize("licence", ["apache-2.0", "llama3.1", "gemma", "cc-by-nc-4.0", "grok2-community"])
def test_parents_of_one_licence_leave_it_to_the_merge(licence):
    assert licence_of([hub(licence), hub(licence, "ada/y")]).id == licence


@pytest.mark.parametrize(
    ("licences", "left"),
    [
        (("mit", "apache-2.0"), "apache-2.0"),
        (("mit", "bsd-3-clause", "apache-2.0"), "apache-2.0"),
        (("apache-2.0", "gpl-3.0"), "gpl-3.0"),
        (("gpl-3.0", "agpl-3.0", "mit"), "agpl-3.0"),
        (("cc-by-4.0", "cc-by-sa-4.0"), "cc-by-sa-4.0"),
        (("cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"), "cc-by-nc-sa-4.0"),
        (("cc0-1.0", "gemma"), "gemma"),
        (("cc0-1.0", "unlicense"), "cc0-1.0"),
    ],
)
def test_a_licence_that_covers_the_others_is_taken_whatever_their_order(licences, left):
    for order in permutations(licences):
        found = licence_of([hub(each, f"ada/x{i}") for i, each in enumerate(order)])
        assert found.id == left or {found.id, left} <= set(ASK_NOTHING)


@pytest.mark.parametrize(
    "licences",
    [
        ("llama3.1", "apache-2.0"),
        ("llama3", "llama3.1"),
        ("gemma", "mit"),
        ("cc-by-sa-4.0", "cc-by-nc-4.0"),
        ("cc-by-nc-4.0", "apache-2.0"),
        ("gpl-2.0", "apache-2.0"),
        ("mit", "bsd-3-clause"),
        ("unheard-of", "mit"),
    ],
)
def test_licences_that_are_not_known_to_fit_are_all_named(licences):
    verdict = licence_of([hub(each, f"ada/x{i}") for i, each in enumerate(licences)])
    assert (verdict.id, verdict.name) == ("other", MIXED)
    assert all(f"`{licence}`" in verdict.sentences[0] for licence in licences)


def test_a_licence_against_derivatives_is_passed_on_to_no_merge():
    verdict = licence_of([hub("cc-by-nd-4.0"), hub("cc-by-nd-4.0", "ada/y")])
    assert verdict.id == "other" and "not allowed by `cc-by-nd-4.0`" in text(verdict)


def test_a_parent_that_states_no_licence_settles_nothing_and_is_named():
    verdict = licence_of([hub("mit"), Parent("mine"), hub(None, "bob/quiet")])
    assert verdict.id == "other"
    assert "`mine` is a local model whose licence this card does not know." in verdict.sentences
    assert "`bob/quiet`: the card on the Hub states no licence." in verdict.sentences


def test_where_no_parent_states_a_licence_it_is_unknown():
    assert licence_of([Parent("mine"), hub(None), hub("unknown", "ada/y")]).id == "unknown"


def test_one_licence_with_a_name_of_its_own_keeps_that_name():
    own = {"license_name": "qwen-research"}
    verdict = licence_of([hub("other", **own), hub("other", "ada/y", **own)])
    assert (verdict.id, verdict.name) == ("other", "qwen-research")
    assert licence_of([hub("other", **own), hub("other", "ada/y")]).name == MIXED


def test_what_may_not_be_done_is_said_of_the_parents_it_comes_from():
    verdict = licence_of([hub("cc-by-nc-4.0", "ada/x"), hub("apache-2.0", "ada/y")])
    line = next(each for each in verdict.sentences if each.startswith("`ada/x`"))
    assert "does not allow commercial uses" in line and "`ada/y`" not in line


def test_gated_and_private_parents_are_named():
    verdict = licence_of([hub("mit", gated=True), hub("mit", "bob/secret", private=True)])
    assert "`ada/x` is gated" in text(verdict) and "`bob/secret` is private" in text(verdict)


@pytest.mark.parametrize(
    ("repository", "told"),
    [("me/Llama-mix", False), ("me/llama-mix", False), ("me/mix", True), ("me/my-Llama", True), (None, False)],
)
def test_a_name_that_a_llama_licence_asks_for_is_held_against_the_repository(repository, told):
    verdict = licence_of([hub("llama3.1")], repository)
    assert 'begins with "Llama"' in text(verdict)
    assert ("does not." in text(verdict)) == told


def test_a_licence_that_is_no_id_of_the_hub_is_a_name_and_never_a_field():
    for odd in HOSTILE:
        told = record(parents=[parent("ada/base", license=odd), parent("ada/math", license=odd), parent("bob/code")])
        assert licence_of(read_lineage(told).parents).id == "other"


@given(st.lists(st.sampled_from([*KNOWN, None, "other", "cc-by-4.0", "cc-by-nd-4.0"]), min_size=1, max_size=5))
def test_a_licence_is_only_passed_on_where_every_parent_states_one(licences):
    found = licence_of([hub(each, f"ada/x{i}") for i, each in enumerate(licences)]).id
    if found not in ("other", "unknown"):
        assert found in licences
        assert all(each == found or each in ASK_NOTHING or found in FITS_INTO.get(each, ()) for each in licences)


def test_what_fits_into_another_licence_is_itself_known_and_free_of_restrictions_that_would_be_lost():
    for licence, wider in FITS_INTO.items():
        for each in wider:
            # Only Creative Commons licences that keep the restriction take in one that has it.
            assert terms(licence).forbids is None or terms(licence).forbids in (terms(each).forbids or "")
