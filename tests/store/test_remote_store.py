"""A store in a repository: a task read from there in every way of fetching, and nothing of the other tasks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

import merging
from merging.engine.compress import compress
from merging.engine.merge import merge
from merging.engine.verify import recorded_plan, verify
from merging.errors import CheckpointError, HubError, MergingError, NoRepositoryError
from merging.hub.fetching import Fetch
from merging.hub.names import HubName
from merging.hub.pull import pull
from merging.planning.check import check
from merging.recipe.source import Source, find_source, open_source
from merging.store.tasks import TaskStore
from tests import tiny
from tests.hub.server import HubServer, Request
from tests.remote import cache, client, folder_files, server
from tests.store.stores import bits

__all__ = ["cache", "server"]

NAME = "tester/tasks"
RECIPE = "merge_method: emr\nbase_model: tester/base\nmodels:\n- model: tester/tuned-1\n- model: tester/tuned-2\n"


@dataclass(frozen=True)
class There:
    """A store in a repository, the folder it was put there from, and the commits of all repositories."""

    server: HubServer
    folder: Path
    family: tiny.Family
    commits: dict[str, str]
    before: int

    @property
    def requests(self) -> list[Request]:
        """What has been asked since all of it was put there."""
        return list(self.server.requests[self.before :])

    def put(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Put a changed JSON file into the repository."""
        data = json.loads((self.folder / name).read_text())
        change(data)
        self.server.add(NAME, {name: json.dumps(data).encode()})

    def asked(self) -> set[str]:
        """The weight files of the store that somebody has asked for."""
        paths = [request.path.partition("?")[0] for request in self.requests]
        return {path.rpartition("/")[2] for path in paths if f"/{NAME}/resolve/" in path and "safetensors" in path}


@pytest.fixture
def there(server: HubServer, tmp_path: Path) -> There:
    family = tiny.family(tmp_path / "family", models=2, shards=2, dtype=torch.bfloat16)
    places = (family.base, *family.tuned)
    commits = {place.name: server.add(f"tester/{place.name}", folder_files(place)) for place in places}
    compress(RECIPE, tmp_path / "store", fetch="ranges")
    commits["tasks"] = server.add(NAME, folder_files(tmp_path / "store"))
    return There(server, tmp_path / "store", family, commits, len(server.requests))


def equal(a: str | Path, b: str | Path) -> bool:
    one, other = open_source(str(a)), open_source(str(b))
    assert dict(one.specs) == dict(other.specs)
    return all(torch.equal(bits(one.read(name)), bits(other.read(name))) for name in one.specs)


@pytest.mark.parametrize("fetch", get_args(Fetch))
def test_a_task_is_read_and_nothing_of_the_others(fetch: Fetch, there: There, tmp_path: Path) -> None:
    recipe = f"merge_method: passthrough\nmodels:\n- model: {NAME}\n".replace(NAME, f"store:{NAME}#tuned-2")
    merge(recipe, tmp_path / "written", fetch=fetch)
    assert there.asked() == {"store.safetensors.index.json", "vector.safetensors", "mask-2.safetensors"}
    assert equal(tmp_path / "written", f"store:{there.folder}#tuned-2")
    record = json.loads((tmp_path / "written" / "merging.json").read_text())
    pins = [{"repository": f"tester/{name}", "commit": there.commits[name]} for name in ("tasks", "base")]
    (model,) = record["models"]
    assert (model["source"], model["pinned"]) == (f"store:{NAME}#tuned-2", pins)
    assert {"repository": model["repository"], "commit": model["commit"]} == pins[0]
    told = [{key: parent[key] for key in ("repository", "commit")} for parent in record["parents"]]
    assert told == pins
    integrity = {"snapshot": "sha256 of whole files", "shards": "sha256 of whole files", "ranges": "none: ranges"}
    assert {parent["integrity"] for parent in record["parents"]} == {integrity[fetch]}


def test_the_commit_that_was_merged_is_verified_wherever_the_branch_is_now(there: There, tmp_path: Path) -> None:
    source = f"store:{NAME}#tuned-1"
    merge(f"merge_method: passthrough\nmodels:\n- model: {source}\n", tmp_path / "out", fetch="ranges")
    there.put("store.json", lambda data: data.update(tasks=["a", "b"]))
    with pytest.raises(CheckpointError, match="holds no task 'tuned-1'"):
        open_source(source)
    *_, result = verify(tmp_path / "out", recorded_plan(tmp_path / "out", fetch="ranges"), sample=None)
    assert result.good  # type: ignore[union-attr]
    assert result.changed_models == ()  # type: ignore[union-attr]


@pytest.mark.parametrize("spelled", [f"store:{NAME}@main#2", f"store:hf://{NAME}#tuned-2", "store:hf://{}@{}#2"])
def test_a_revision_and_a_scheme_may_be_said(spelled: str, there: There) -> None:
    text = spelled.format(NAME, there.commits["tasks"])
    found = open_source(text, fetch="ranges")
    assert found.location == text.replace("hf://", "").replace("#2", "#tuned-2")
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(found.read(name), open_source(f"store:{there.folder}#2").read(name))


def test_a_source_is_found_without_asking_the_hub(there: There) -> None:
    found = find_source(f"store:{NAME}@v1#tuned-1")
    assert found == Source(HubName(NAME, "v1"), task="tuned-1")
    assert found.places == (HubName(NAME, "v1"),)
    assert found.seen_from() == f"store:hf://{NAME}@v1#tuned-1"
    assert there.requests == []


def test_a_folder_of_that_name_comes_first(there: There, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(there.folder, tmp_path / NAME)
    monkeypatch.chdir(tmp_path)
    assert find_source(f"store:{NAME}#1").path == Path(NAME)
    assert find_source(f"store:hf://{NAME}#1").path == HubName(NAME)
    with pytest.raises(CheckpointError, match="there is no store tester/taks") as caught:
        find_source("store:tester/taks#1")
    assert str(caught.value.fix) == "nearest: store:tester/tasks, store:hf://tester/taks"


@pytest.mark.parametrize("task", ["", "0", "3", "tuned-9"])
def test_an_unknown_task_is_told_before_any_weights(task: str, there: There) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_source(f"store:{NAME}#{task}", where="r.yaml line 3")
    assert caught.value.must_be == "one of tuned-1 (1), tuned-2 (2)"
    assert caught.value.where == "r.yaml line 3"
    assert str(caught.value.fix).startswith(f"write store:{NAME}#tuned-")
    assert there.asked() == {"store.safetensors.index.json"}


def test_what_is_no_store_or_no_repository_is_said_so(there: There) -> None:
    with pytest.raises(CheckpointError, match=r"tester/base@\w+ is no store of tasks") as caught:
        open_source("store:tester/base#1", where="r.yaml line 3")
    assert (caught.value.where, caught.value.fix) == ("r.yaml line 3", "write tester/base if the model itself is meant")
    with pytest.raises(NoRepositoryError, match="there is no repository tester/nothing"):
        open_source("store:tester/nothing#1")
    with pytest.raises(HubError, match="there is no such revision"):
        open_source(f"store:{NAME}@nothing#1")
    assert there.folder.is_dir()


def test_a_store_as_a_model_is_told_its_tasks(there: There) -> None:
    with pytest.raises(CheckpointError, match=f"{NAME} is a store of 2 tasks, and no model by itself") as caught:
        open_source(NAME)
    assert caught.value.must_be == f"one of store:{NAME}#tuned-1, store:{NAME}#tuned-2"
    assert there.asked() == set()


@pytest.mark.parametrize("base", ["../family/base", "tester/base", "hf://tester/base+../lora", "/etc", "hf://", ""])
def test_a_record_from_the_hub_opens_no_path_here(base: str, there: There) -> None:
    there.put("store.json", lambda data: data["base"].update(source=base))
    with pytest.raises(CheckpointError, match="is on no Hub") as caught:
        open_source(f"store:{NAME}#1")
    assert "merging pull" in str(caught.value.fix)


def test_a_base_model_that_is_gone_or_another_is_named(there: There) -> None:
    there.put("store.json", lambda data: data["base"].update(source="hf://tester/gone"))
    with pytest.raises(NoRepositoryError, match=f"the base model of the store {NAME} cannot be had") as caught:
        open_source(f"store:{NAME}#1")
    assert "store.json" in str(caught.value.where)
    there.put("store.json", lambda data: data["base"].update(source="hf://tester/tuned-1"))
    with pytest.raises(CheckpointError, match="tester/tuned-1 is not the base model") as caught_other:
        open_source(f"store:{NAME}#1")
    assert "ask who published" in str(caught_other.value.fix)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data["weight_map"].pop("mask.2.model.norm.weight"), "the store lacks mask.2.model.norm.weight"),
        (lambda data: data["weight_map"].update({"x": "mask-1.safetensors"}), "does not mention x"),
        (lambda data: data["weight_map"].update({"mask.1.model.norm.weight": "vector.safetensors"}), "the index"),
        (lambda data: data["weight_map"].update({"mask.1.model.norm.weight": "../x.safetensors"}), "leads out"),
        (lambda data: data["weight_map"].update({"mask.1.model.norm.weight": "x.safetensors"}), "shards are missing"),
        (lambda data: data.update(weight_map={}), "no weight_map"),
    ],
)
def test_an_index_that_lies_is_refused(change: Callable[[dict[str, Any]], object], says: str, there: There) -> None:
    there.put("store.safetensors.index.json", change)
    with pytest.raises(MergingError) as caught:
        open_source(f"store:{NAME}#1")
    assert says in str(caught.value)


def test_a_mask_that_does_not_fit_is_refused_before_it_is_fetched(there: There) -> None:
    there.server.add(NAME, {"mask-1.safetensors": (there.folder / "mask-1.safetensors").read_bytes()[:-1]})
    with pytest.raises(MergingError, match="mask-1"):
        open_source(f"store:{NAME}#1")
    assert open_source(f"store:{NAME}#2", fetch="ranges").read("model.norm.weight").numel()


def test_a_check_counts_what_would_be_fetched(there: There) -> None:
    recipe = f"merge_method: linear\nmodels:\n- model: store:{NAME}#1\n- model: store:{NAME}#2\n"
    sizes = {path.name: path.stat().st_size for path in there.folder.iterdir() if path.is_file()}
    base = sum(path.stat().st_size for path in there.family.base.glob("*.safetensors"))
    whole = base + sum(sizes[name] for name in ("vector.safetensors", "mask-1.safetensors", "mask-2.safetensors"))
    parameters = "parameters: {weight: 0.5}\n"
    assert check(recipe + parameters).fetched_bytes == whole
    # The vector is read for each of the two, in float32, and the base model too.
    ranged = check(recipe + parameters, fetch="ranges").fetched_bytes
    assert (
        0.9 * (whole + base + sizes["vector.safetensors"]) < ranged < 1.1 * (whole + base + sizes["vector.safetensors"])
    )


def test_a_pulled_store_is_a_store(there: There, tmp_path: Path) -> None:
    hub = client(there.server)
    folder = pull(hub, hub.pin(HubName(NAME)), tmp_path / "pulled")
    names = {path.name for path in there.folder.iterdir() if path.is_file()}
    assert {path.name for path in folder.iterdir() if path.is_file()} == names
    assert TaskStore(folder).tasks == ("tuned-1", "tuned-2")
    assert equal(f"store:{folder}#1", f"store:{there.folder}#1")


def test_an_adapter_on_a_base_model_may_be_what_tasks_stand_on(server: HubServer, tmp_path: Path) -> None:
    zoo = merging.find_zoo()
    tuned, places = list(zoo.fine_tunes.values())[:2], {"base": zoo.base, "lora": next(iter(zoo.adapters.values()))}
    commits = {name: server.add(f"tester/{name}", folder_files(Path(place))) for name, place in places.items()}
    models = "".join(f"- model: {place}\n" for place in tuned)
    compress(f"merge_method: emr\nbase_model: tester/base+tester/lora\nmodels:\n{models}", tmp_path / "store")
    server.add(NAME, folder_files(tmp_path / "store"))
    named = TaskStore(tmp_path / "store").record.base
    assert named == f"hf://tester/base@{commits['base']}+hf://tester/lora@{commits['lora']}"
    there = open_source(f"store:{NAME}#1", fetch="ranges")
    pinned = [each.repository for each in there.pinned]  # type: ignore[attr-defined]
    assert pinned == [NAME, "tester/base", "tester/lora"]
    name = next(iter(there.specs))
    assert torch.equal(bits(there.read(name)), bits(open_source(f"store:{tmp_path / 'store'}#1").read(name)))


def test_offline_a_task_that_was_read_is_read_again(
    there: There, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = f"merge_method: passthrough\nmodels:\n- model: store:{NAME}#2\n"
    merge(recipe, tmp_path / "first")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = len(there.requests)
    merge(recipe, tmp_path / "second")
    assert len(there.requests) == before
    assert equal(tmp_path / "first", tmp_path / "second")
    with pytest.raises(MergingError, match="mask-1"):
        open_source(f"store:{NAME}#1")
