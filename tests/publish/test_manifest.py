from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from merging import merge
from merging.errors import MergingError, OutputError, Problems
from merging.publish.manifest import manifest
from tests import tiny

ALONE = ["config.json", "generation_config.json", "merging-ledger.jsonl", "merging.json"]


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """A finished merge in several shards, with tokenizer files."""
    root = tmp_path_factory.mktemp("merged")
    family = tiny.family(root, models=2)
    recipe = (
        "merge_method: task_arithmetic\nbase_model: {}\nmodels:\n- model: {}\n- model: {}\nparameters:\n  weight: 0.5\n"
    )
    out = root / "out"
    merge(recipe.format(family.base, *family.tuned), out, shard_bytes=100_000, workers=1)
    return out


@pytest.fixture
def out(merged, tmp_path):
    """A copy of it to be broken."""
    return Path(shutil.copytree(merged, tmp_path / "out"))


def refused(folder):
    with pytest.raises(MergingError) as caught:
        manifest(folder)
    problems = caught.value.problems if isinstance(caught.value, Problems) else (caught.value,)
    assert all(isinstance(problem, OutputError) for problem in problems)
    return problems


def test_everything_that_a_merge_wrote_is_published_and_nothing_else(out):
    before = {path.name for path in out.iterdir()}
    (out / "notes.txt").write_text("mine")
    (out / "optimizer.pt").write_text("mine")
    (out / "extra.safetensors").write_text("mine")
    (out / "checkpoints").mkdir()
    (out / "README.md").write_text("# Mine\n")
    found = manifest(out)
    assert {entry.path for entry in found.entries} == before
    assert found.left_out == ("README.md", "checkpoints/", "extra.safetensors", "notes.txt", "optimizer.pt")
    assert found.nbytes == sum(entry.size for entry in found.entries)


def test_files_are_hashed_as_they_lie_on_disk(out):
    for entry in manifest(out).without("merging.json").entries:
        assert entry.sha256 == hashlib.sha256((out / entry.path).read_bytes()).hexdigest()


def test_a_file_that_grew_since_it_was_listed_is_not_hashed(out):
    config = next(entry for entry in manifest(out).entries if entry.path == "config.json")
    with (out / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(OutputError, match="now has"):
        _ = config.sha256


def test_files_in_the_folders_of_sentence_transformers_are_published_one_by_one(out):
    (out / "1_Pooling").mkdir()
    (out / "1_Pooling" / "config.json").write_text("{}")
    (out / "1_Pooling" / "other.txt").write_text("")
    found = manifest(out)
    assert "1_Pooling/config.json" in [entry.path for entry in found.entries]
    assert found.left_out == ("1_Pooling/other.txt",)


def test_a_folder_of_something_else_is_refused_with_what_to_do(tmp_path):
    (problem,) = refused(tmp_path)
    assert "no record of a merge" in problem.what and "merging run" in problem.fix
    assert "there is no folder" in refused(tmp_path / "nowhere")[0].what


@pytest.mark.parametrize("left", [".merging", "model-00001-of-00003.safetensors.partial"])
def test_an_unfinished_merge_is_refused(out, left):
    (out / left).mkdir()
    (problem,) = refused(out)
    assert "not finished" in problem.what and left in problem.where


def test_all_that_is_wrong_is_said_at_once(out):
    first, second = sorted(out.glob("model-*.safetensors"))[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-8])
    (out / "config.json").unlink()
    (out / "config.json").symlink_to("/etc/hostname")
    said = [problem.what for problem in refused(out)]
    assert len(said) == 3
    assert f"{first.name} is missing" in said
    assert any("cut short" in what for what in said) and any("leads out of its folder" in what for what in said)


def test_a_file_with_bytes_after_its_tensors_is_refused(out):
    shard = next(iter(sorted(out.glob("model-*.safetensors"))))
    shard.write_bytes(shard.read_bytes() + b"secrets")
    assert "belong to no tensor" in refused(out)[0].what


@pytest.mark.parametrize("name", ["../private.safetensors", "/etc/passwd", ".env", "notes.txt", "", 7, ".safetensors"])
def test_a_record_cannot_name_files_that_are_no_weights(out, name):
    (out / "notes.txt").write_text("mine")
    record = json.loads((out / "merging.json").read_text())
    (out / "merging.json").write_text(json.dumps({**record, "files": [name, *record["files"]]}))
    (problem,) = refused(out)
    assert "as a file of the merge" in problem.what


@pytest.mark.parametrize("files", [[], None, ["model.safetensors.index.json"]])
def test_a_record_without_weights_is_refused(out, files):
    record = json.loads((out / "merging.json").read_text())
    (out / "merging.json").write_text(json.dumps({**record, "files": files}))
    assert "names no weights" in refused(out)[0].what


def test_weights_that_link_out_of_the_folder_are_refused(out, tmp_path):
    shard = next(iter(sorted(out.glob("model-*.safetensors"))))
    moved = shard.rename(tmp_path / "elsewhere.safetensors")
    shard.symlink_to(moved)
    assert "leads out of its folder" in refused(out)[0].what


def test_a_tokenizer_that_links_out_of_the_folder_is_refused(out):
    (out / "tokenizer.json").unlink(missing_ok=True)
    (out / "tokenizer.json").symlink_to("/etc/hostname")
    assert "leads out of its folder" in refused(out)[0].what


def test_an_index_of_other_weights_is_refused(out):
    index = out / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    told["weight_map"].popitem()
    index.write_text(json.dumps(told))
    assert "does not describe the weights" in refused(out)[0].what


@pytest.mark.parametrize("text", [None, "no json\n", "[]\n", '{"tensor": "another"}\n'])
def test_weights_that_the_ledger_does_not_know_are_refused(out, text):
    ledger = out / "merging-ledger.jsonl"
    ledger.unlink() if text is None else ledger.write_text(text)
    assert refused(out)


def test_no_path_of_this_machine_is_published(out, merged):
    base = str(merged.parent / "base")
    assert base in (out / "merging.json").read_text()
    entries = manifest(out).entries
    contents = [entry.content if entry.local is None else entry.local.read_bytes() for entry in entries]
    assert all(str(merged.parent).encode() not in (content or b"") for content in contents)


def test_what_is_made_in_memory_takes_the_place_of_a_file(out):
    (out / "README.md").write_text("# Mine\n")
    found = manifest(out).adding("README.md", b"ours").adding("README.md", b"ours again")
    (readme,) = [entry for entry in found.entries if entry.path == "README.md"]
    assert (readme.size, readme.sha256) == (10, hashlib.sha256(b"ours again").hexdigest())
    assert found.left_out == ()
