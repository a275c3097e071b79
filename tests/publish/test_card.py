from __future__ import annotations

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.publish.card import model_names, write_card
from merging.recipe.text import read_recipe, recipe_from_data
from tests.publish.toys import COMMITS, HOSTILE, config, copied_row, ledger, model, parent, record, row

markdown = pytest.importorskip("markdown_it", reason="comes with rich")
GOLDEN = Path(__file__).parent / "golden.md"


def data(card):
    return ModelCard(card).data.to_dict()


def tokens(card):
    found = markdown.MarkdownIt("commonmark").enable("table").parse(ModelCard(card).text)
    return [inner for token in found for inner in (token.children or [token])]


def fences(card):
    return [token.content for token in tokens(card) if token.type == "fence"]


def section(card, name):
    return re.split(r"^## ", card.split(f"\n## {name}\n")[1], flags=re.MULTILINE)[0]


def test_the_card_of_one_merge_stays_as_it_was_read_and_approved():
    adapted = record(("ada/math", "bob/code@main", "ada/base+eve/style", "/mnt/ada/chat"))
    adapted["parents"][1] |= {"license": "llama3.1", "gated": True}
    rows = ledger(layers=3, models=4)
    rows[1]["parameters"]["density"] = [0.2, 0.4, 0.4, 0.4]
    assert write_card(adapted, rows, "me/Mix", config=config()) == GOLDEN.read_text()


def test_the_metadata_names_each_repository_once_and_calls_it_a_merge():
    found = data(write_card(record(("ada/base+eve/style", "bob/code")), ledger(), config=config()))
    assert found == {
        "base_model": ["ada/base", "eve/style", "bob/code"],
        "base_model_relation": "merge",
        "tags": ["merge", "merging", "ties"],
        "license": "apache-2.0",
        "library_name": "transformers",
    }


def test_a_merge_of_local_models_claims_no_base_model():
    found = data(write_card(record(("/models/a", "/models/b"), base=None), ledger()))
    assert found == {"tags": ["merge", "merging", "linear"], "license": "unknown"}


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"model_type": "llama"},
        {"architectures": ["X"], "model_type": "unheard-of"},
        {"architectures": ["X"], "model_type": "llama", "auto_map": {"AutoModel": "code.X"}},
    ],
)
def test_transformers_is_named_only_where_it_loads_the_model(odd):
    assert "library_name" not in data(write_card(record(), ledger(), config=odd))


def test_several_licences_are_no_licence_field_but_a_named_conflict():
    told = record(parents=[parent("ada/math", license="llama3.1"), parent("bob/code"), parent("ada/base")])
    card = write_card(told, ledger(), "me/mix")
    assert (data(card)["license"], data(card)["license_name"]) == ("other", "several-licences")
    assert "`llama3.1`" in section(card, "Licence") and "`me/mix` does not" in section(card, "Licence")


def test_every_parent_is_linked_at_its_commit():
    links = [token.attrs["href"] for token in tokens(write_card(record(), ledger())) if token.type == "link_open"]
    for repository, commit in list(COMMITS.items())[:3]:
        assert f"https://huggingface.co/{repository}" in links
        assert f"https://huggingface.co/{repository}/tree/{commit}" in links


def test_how_the_bytes_were_checked_is_said_for_every_source():
    told = record(("ada/math", "/models/b"))
    told["parents"][0]["integrity"] = "none: ranges"
    models = section(write_card(told, ledger()), "Models")
    assert "`none: ranges`" in models and "`sha256 of whole files`" in models and "fingerprint" in models


def test_the_method_is_cited():
    method = section(write_card(record(), ledger()), "Method")
    assert "[arXiv:2306.01708](https://arxiv.org/abs/2306.01708)" in method


def test_a_method_that_is_not_installed_is_named_without_a_paper():
    told = record()
    told["recipe"]["merge_method"] = "from_a_plugin"
    assert "`from_a_plugin`" in section(write_card(told, ledger()), "Method")


def test_the_recipe_stands_as_written_and_once_more_with_commits():
    card = write_card(record(), ledger())
    written, pinned = (read_recipe(text) for text in fences(card)[:2])
    assert written == recipe_from_data(record()["recipe"])
    assert [entry.source for entry in pinned.models] == [f"{name}@{COMMITS[name]}" for name in ("ada/math", "bob/code")]


def test_a_merge_of_local_models_shows_its_recipe_once():
    card = write_card(record(("/a/x", "/a/y"), base=None), ledger())
    assert len(fences(card)) == 2 and "merging run recipe.yaml" in fences(card)[1]


def test_another_size_of_shards_is_part_of_making_it_again():
    assert "--shard-size 1000" in write_card(record(shard_bytes=1000), ledger())


def test_what_is_not_finite_is_counted_and_named():
    rows = [*ledger(), row("model.layers.1.bad.weight", [1.0, 1.0], non_finite=3)]
    assert "**3 entries are not finite**, in `model.layers.1.bad.weight`" in write_card(record(), rows)


def test_merged_copied_and_unmoved_tensors_are_counted():
    found = section(write_card(record(), [*ledger(), copied_row("lm_head.weight", 0)]), "What each layer got")
    assert "5 tensors with 160 entries in `BF16`: 3 merged, 2 copied unchanged." in found
    assert "that no model had changed, and that are the base model's: 1." in found


def test_parameters_are_told_as_the_tensors_got_them():
    rows = ledger()
    rows[1]["parameters"]["density"] = [0.1, 0.4]
    found = section(write_card(record(), rows), "Settings")
    assert "`ada/math` 0.1 to 0.4<br>`bob/code` 0.4" in found and "| `weight` | 0.5 |" in found


def test_no_path_of_the_machine_and_no_secret_is_in_the_card():
    secret = "hf_" + "s" * 34
    told = record((f"/mnt/ada/{secret}/math", f"C:\\Users\\ada\\{secret}", f"https://u:{secret}@x/y?token={secret}"))
    told["recipe"]["parameters"]["density"] = [{"filter": secret, "value": 0.5}, {"value": 0.4}]
    card = write_card(told, ledger(models=3))
    assert secret not in card and "/home" not in card and "Users" not in card and "recipes" not in card


@settings(max_examples=40)
@given(st.one_of(st.text(min_size=1), st.sampled_from(HOSTILE)), st.one_of(st.text(), st.sampled_from(HOSTILE)))
def test_no_text_of_others_becomes_markup_links_or_metadata(name, other):
    told = record(("ada/math", "bob/code"))
    told["parents"][0] |= {"license": other, "integrity": other}
    told["parents"][1] |= {"license": "other", "license_name": other}
    odd = model("x", 3) | {"source": name}
    told["models"].append(odd)
    rows = [*ledger(), copied_row(f"tensor {other}", 0, note=other), row(f"t {name}", [1.0, 1.0], non_finite=1)]
    card = write_card(told, rows, "me/mix", config=config())
    card.encode()
    found = data(card)
    assert set(found) <= {"base_model", "base_model_relation", "tags", "license", "license_name", "library_name"}
    assert found["base_model"] == ["ada/math", "bob/code", "ada/base"]
    assert {token.content for token in tokens(card) if token.type in ("html_inline", "html_block")} <= {"<br>"}
    links = [token.attrs["href"] for token in tokens(card) if token.type == "link_open"]
    assert all(link.startswith(("https://huggingface.co/", "https://arxiv.org/abs/")) for link in links)
    assert [token.attrs["src"] for token in tokens(card) if token.type == "image"] == ["merging-layers.svg"]
    assert len([token for token in tokens(card) if token.type == "heading_open"]) == 8


@pytest.mark.parametrize("odd", HOSTILE)
def test_a_hostile_name_in_the_recipe_stays_inside_its_fence(odd):
    told = record((odd, "bob/code"))
    card = write_card(told, ledger(), config=config())
    assert data(card)["license"] == "other"
    assert {token.content for token in tokens(card) if token.type in ("html_inline", "html_block")} <= {"<br>"}
    assert read_recipe(fences(card)[0]).models[0].source == model_names(told)[0]


def test_the_names_of_the_picture_s_rows_are_those_of_the_card():
    told = record(("/mnt/ada/math", "bob/code"))
    assert model_names(told) == ("math", "bob/code", "ada/base")
