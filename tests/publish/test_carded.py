from __future__ import annotations

from xml.etree import ElementTree

import pytest
from huggingface_hub import ModelCard

from merging import merge
from merging.publish.carded import with_card_files
from merging.publish.manifest import manifest
from merging.publish.readme import is_ours
from tests import tiny


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A finished TIES merge of models named by absolute paths."""
    root = tmp_path_factory.mktemp("carded")
    family = tiny.family(root, models=2)
    recipe = "merge_method: ties\nbase_model: {}\nmodels:\n- model: {}\n- model: {}\nparameters:\n  density: 0.5\n"
    merge(recipe.format(family.base, *family.tuned), root / "out", workers=1)
    return root / "out"


def contents(found):
    return {entry.path: entry.content.decode() for entry in found.entries if entry.content is not None}


def test_a_merge_gets_a_card_and_a_picture(out):
    made = contents(with_card_files(manifest(out), "me/mix"))
    assert sorted(made) == ["README.md", "merging-layers.svg", "merging.json"]
    assert ModelCard(made["README.md"]).data.tags == ["merge", "merging", "ties"]
    assert "tuned-1" in "".join(ElementTree.fromstring(made["merging-layers.svg"]).itertext())


def test_nothing_that_is_made_tells_where_the_models_lie(out):
    for text in contents(with_card_files(manifest(out), "me/mix")).values():
        assert str(out.parent) not in text and out.parent.name not in text


def test_a_readme_of_a_person_is_left_as_it_is_and_the_card_stands_beside_it(out):
    made = contents(with_card_files(manifest(out), "me/mix", "---\ntags: [a]\n---\n# Mine\n"))
    assert sorted(made) == ["MERGE.md", "merging-layers.svg", "merging.json"] and is_ours(made["MERGE.md"])


def test_a_card_that_an_earlier_push_left_in_the_folder_does_not_go_out_again(out):
    first = with_card_files(manifest(out), "me/mix")
    (out / "README.md").write_text(contents(first)["README.md"])
    again = with_card_files(manifest(out), "me/mix", "# Mine\n\n---\n")
    assert "README.md" not in {entry.path for entry in again.entries if entry.local}
    (out / "README.md").unlink()
