"""`store:folder#task` in the grammar of sources: what it names, from where, and how it is written elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from merging.errors import CheckpointError, MergingError
from merging.hub.names import HubName
from merging.recipe.source import Source, at_commits, find_source, open_source
from tests.store.stores import kept_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and its base in it."""
    folder = tmp_path_factory.mktemp("made")
    kept_of(folder, kind="llama", models=2)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the current folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_store_and_a_task_are_found_with_their_base(here: Path) -> None:
    found = find_source("store:store#tuned-1")
    assert found == Source(Path("store"), task="tuned-1", base=Source(Path("store/../base")))
    assert [place.resolve() for place in found.places if isinstance(place, Path)] == [here / "store", here / "base"]


def test_a_store_is_looked_for_beside_the_recipe_first(here: Path) -> None:
    (here / "recipes").mkdir()
    assert find_source("store:../store#1", relative_to=here / "recipes").path == here / "recipes" / ".." / "store"
    assert find_source("store:store#1", relative_to=here / "recipes").path == Path("store")


@pytest.mark.parametrize("name", ["a#b", "a+b", "a@b", "#", "store:x"])
def test_a_folder_of_any_name_may_be_a_store(name: str, here: Path) -> None:
    (here / "store").rename(here / name)
    assert open_source(f"store:{name}#tuned-2").location == f"store:{name}#tuned-2"
    assert find_source(f"store:{name}").task == ""


def test_a_path_that_is_called_so_is_taken_as_it_is(here: Path) -> None:
    (here / "base").rename(here / "store:base#1")
    assert find_source("store:base#1") == Source(Path("store:base#1"))


def test_a_store_that_is_not_there_is_told_the_nearest(here: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no store stoer") as caught:
        find_source("store:stoer#1", where="r.yaml line 2")
    assert caught.value.fix == "nearest: store:store"
    assert caught.value.where == "r.yaml line 2"
    with pytest.raises(CheckpointError, match="is no store"):
        find_source("store:base#1")
    assert here.is_dir()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("text", ["store:", "store:#", "store:#1", "store:x#", "store:" + "x" * 5000, "store:\0#1"])
def test_what_names_no_store_is_refused(text: str) -> None:
    with pytest.raises(MergingError, match="there is no store"):
        find_source(text)


def test_a_source_is_written_as_another_folder_sees_it(here: Path) -> None:
    (here / "elsewhere").mkdir()
    found = find_source("store:store#tuned-1")
    assert found.seen_from(here / "elsewhere") == "store:../store#tuned-1"
    assert found.seen_from() == f"store:{here / 'store'}#tuned-1"
    assert find_source("base").seen_from(here) == "./base"
    assert (
        Source(here / "base", HubName("owner/lora", "v1")).seen_from(here / "elsewhere") == "../base+hf://owner/lora@v1"
    )


def test_only_repositories_are_pinned_to_commits() -> None:
    commits = {("owner/tasks", "main"): "0a1b", ("owner/tasks", "v1"): "2c3d"}
    assert at_commits("store:./tasks#1", commits) == "store:./tasks#1"
    assert at_commits("store:owner/tasks#a#b", commits) == "store:hf://owner/tasks@0a1b#a#b"
    assert at_commits("store:hf://owner/tasks@v1#1", commits) == "store:hf://owner/tasks@2c3d#1"
