from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.errors import MergingError
from merging.publish.lineage import local_name, read_lineage
from tests.publish.toys import COMMITS, model, parent, record


def test_hub_sources_are_pinned_to_their_commits():
    lineage = read_lineage(record())
    assert [each.pinned for each in lineage.models] == [
        f"ada/math@{COMMITS['ada/math']}",
        f"bob/code@{COMMITS['bob/code']}",
        f"ada/base@{COMMITS['ada/base']}",
    ]
    assert lineage.written["models"][1]["model"] == "bob/code@main"
    assert lineage.pinned["base_model"] == f"ada/base@{COMMITS['ada/base']}"


def test_an_adapter_brings_its_base_model_among_the_parents():
    lineage = read_lineage(record(("ada/base+eve/style", "bob/code")))
    assert lineage.base_models == ("ada/base", "eve/style", "bob/code")
    assert lineage.models[0].pinned == f"ada/base@{COMMITS['ada/base']}+eve/style@{COMMITS['eve/style']}"


def stored(source: str, *names: str) -> dict[str, object]:
    """An entry of `models` for a task of a store, and what it comes from."""
    pins = [{"repository": name, "commit": COMMITS[name]} for name in names]
    return {"source": source, "fingerprint": "f" * 64, "pinned": pins}


def test_a_task_of_a_store_brings_the_store_and_its_base_model_among_the_parents():
    told = record(("store:eve/style@main#math", "bob/code"), base=None)
    told["parents"] += [parent("eve/style"), parent("ada/base", license="mit")]
    own = {"repository": "eve/style", "commit": COMMITS["eve/style"]}
    told["models"][0] = {**stored("store:eve/style@main#math", "eve/style", "ada/base"), **own}
    lineage = read_lineage(told)
    assert lineage.base_models == ("eve/style", "ada/base", "bob/code")
    assert lineage.parents[1].license == "mit"
    assert lineage.models[0].name == "store:eve/style#math"
    assert lineage.written["models"][0]["model"] == "store:eve/style@main#math"
    assert lineage.pinned["models"][0]["model"] == f"store:eve/style@{COMMITS['eve/style']}#math"


def test_a_task_of_a_local_store_keeps_the_name_of_its_folder_and_its_base_model():
    told = record(("store:/mnt/ada/kept#math", "bob/code"), base=None)
    told["parents"].append(parent("ada/base"))
    told["models"][0] = stored("store:/mnt/ada/kept#math", "ada/base")
    lineage = read_lineage(told)
    assert lineage.models[0].is_local
    assert lineage.base_models == ("ada/base", "bob/code")
    assert lineage.written["models"][0]["model"] == "store:kept#math" == lineage.pinned["models"][0]["model"]


def test_two_revisions_of_one_repository_keep_their_own_commits():
    told = record(("ada/math", "ada/math@v2"))
    told["parents"] = [parent("ada/math"), parent("ada/math@v2", commit="e" * 40), parent("ada/base")]
    told["models"][1]["commit"] = "e" * 40
    lineage = read_lineage(told)
    assert [each.parents[0].commit for each in lineage.models[:2]] == ["b" * 40, "e" * 40]
    assert lineage.base_models == ("ada/math", "ada/base")


def test_a_second_name_of_a_commit_leads_to_that_commit():
    told = record(("ada/math", "ada/math@v1", "ada/math@latest"))
    told["parents"] = [parent("ada/math"), parent("ada/math@v1", commit="e" * 40), parent("ada/base")]
    told["models"][1]["commit"] = told["models"][2]["commit"] = "e" * 40
    assert [each.parents[0].commit for each in read_lineage(told).models[:3]] == ["b" * 40, "e" * 40, "e" * 40]


def test_a_local_path_that_looks_like_a_hub_id_is_none():
    lineage = read_lineage(record(("models/math", "bob/code")))
    assert lineage.models[0].name == "math" and lineage.models[0].is_local
    assert lineage.base_models == ("bob/code", "ada/base")
    assert lineage.written["models"][0]["model"] == "math"


def test_local_models_of_one_name_are_told_apart():
    lineage = read_lineage(record(("/mnt/ada/x/final", "/mnt/bob/y/final")))
    assert [each.name for each in lineage.models[:2]] == ["final", "final (2)"]
    assert [entry["model"] for entry in lineage.written["models"]] == ["final", "final (2)"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/mnt/ada/models/math", "math"),
        ("C:\\Users\\ada\\math", "math"),
        ("../zoo/base/", "base"),
        ("~", "local model"),
        ("../..", "local model"),
        ("", "local model"),
        ("/", "local model"),
        ("/srv/hf_" + "a" * 20, "<TOKEN>"),
    ],
)
def test_only_the_last_part_of_a_path_is_told(source, name):
    assert local_name(source) == name


@given(st.text(alphabet="/\\ab+@.~: ", max_size=30))
def test_no_name_holds_a_path(source):
    lineage = read_lineage(record((source or "x", "bob/code")))
    name = lineage.models[0].name
    assert name and "/" not in name and "\\" not in name


def test_statistics_are_no_base_models_and_are_pinned_all_the_same():
    told = record(("ada/math", "bob/code"), base=None)
    told["recipe"]["models"][0]["companions"] = {"fisher": "eve/style"}
    told["recipe"]["tokenizer_source"] = "ada/math"
    told["models"].append(model("eve/style", 2))
    told["parents"].append(parent("eve/style"))
    lineage = read_lineage(told)
    assert [each.role for each in lineage.models] == ["model", "model", "statistics"]
    assert lineage.base_models == ("ada/math", "bob/code")
    assert lineage.pinned["tokenizer_source"] == f"ada/math@{COMMITS['ada/math']}"
    assert lineage.pinned["models"][0]["companions"] == {"fisher": f"eve/style@{COMMITS['eve/style']}"}


def test_secrets_in_other_texts_of_the_recipe_are_taken_out():
    told = record()
    told["recipe"]["parameters"] = {"density": [{"filter": "hf_" + "s" * 20, "value": 0.5}, {"value": 1}]}
    assert read_lineage(told).written["parameters"]["density"][0]["filter"] == "<TOKEN>"


def test_a_record_without_a_recipe_is_refused():
    with pytest.raises(MergingError, match="lacks `merge_method`"):
        read_lineage({"recipe": {"models": [{"model": "a"}]}})
