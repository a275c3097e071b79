"""A store of tasks on the Hub: all its files and no others, a card, the same tasks back; never without its base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import ModelCard

from merging.cli.push import push as command
from merging.engine.compress import compress
from merging.engine.merge import merge
from merging.engine.store_folder import verify_store
from merging.errors import HubError, MergingError, OutputError
from merging.hub.names import HubName
from merging.hub.pull import pull
from merging.publish.outlook import Outlook
from merging.publish.push import Sending, push
from merging.publish.stored import store_manifest
from merging.recipe.source import open_source
from tests import tiny
from tests.hub.server import Fault, HubServer
from tests.publish.loopback import commits, either, hub_of, outlook_of, plain, require_nothing_new
from tests.remote import folder_files
from tests.store.stores import bits, recipe_of

__all__ = ["either", "plain"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

NAME = "tester/tasks"


def stored(server: HubServer, folder: Path, method: str = "emr") -> Path:
    """A store of two local fine-tunes of a base model on the Hub, with something beside it that belongs to nobody."""
    family = tiny.family(folder / "family", models=2, dtype=torch.bfloat16)
    server.add("tester/base", {**folder_files(family.base), "README.md": b"---\nlicense: mit\n---\n# Base\n"})
    recipe = recipe_of(family, method).replace(str(family.base), "tester/base")
    compress(recipe, folder / "store", fetch="ranges")
    (folder / "store" / "notes.txt").write_text("mine\n")
    return folder / "store"


def test_what_is_pushed_is_read_back_bit_for_bit(either: HubServer, tmp_path: Path) -> None:
    store = stored(either, tmp_path)
    made = push(store, NAME, hub=hub_of(either))
    assert commits(either) == 1
    assert made.commit == either.head(NAME)
    assert either.state.repositories[NAME].private
    there, here = open_source(f"store:{NAME}#tuned-2"), open_source(f"store:{store}#tuned-2")
    assert all(torch.equal(bits(there.read(name)), bits(here.read(name))) for name in here.specs)
    assert set(there.sidecars()) == set(here.sidecars())
    hub = hub_of(either)
    back = pull(hub, hub.pin(HubName(NAME)), tmp_path / "back")
    assert verify_store(back) == verify_store(store)
    for path in store.glob("*.safetensors*"):
        assert (back / path.name).read_bytes() == path.read_bytes()


def test_the_same_store_again_sends_nothing_and_commits_nothing(either: HubServer, tmp_path: Path) -> None:
    require_nothing_new(either, stored(either, tmp_path), NAME)


def test_a_push_that_broke_goes_on_where_it_was(plain: HubServer, tmp_path: Path) -> None:
    store = stored(plain, tmp_path)
    plain.fail(Fault("PUT", "/upload/", skip=1, times=99, status=403))
    with pytest.raises(HubError):
        push(store, NAME, hub=hub_of(plain))
    assert commits(plain) == 0
    plain.mend()
    seen: list[Outlook | Sending] = []
    push(store, NAME, hub=hub_of(plain), watch=seen.append)
    held = {event.path: event.held for event in seen if isinstance(event, Sending)}
    assert sorted(held.values()) == [False, False, True]


def test_exactly_the_files_of_the_store_are_published_without_paths_of_this_machine(
    plain: HubServer, tmp_path: Path
) -> None:
    store = stored(plain, tmp_path)
    found = outlook_of(plain, store, NAME)
    assert found.manifest.left_out == ("notes.txt",)
    push(store, NAME, hub=hub_of(plain))
    held = plain.contents(NAME)
    own = {path.name for path in store.iterdir()} - {"notes.txt"}
    assert set(held) == {*own, "README.md", ".gitattributes"}
    texts = [content.decode() for path, content in held.items() if path.endswith((".json", ".jsonl", ".md"))]
    assert not [text for text in texts if str(tmp_path) in text]
    record, mine = json.loads(held["store.json"]), json.loads((store / "store.json").read_text())
    assert record["recipe"]["models"] == [{"model": "tuned-1"}, {"model": "tuned-2"}]
    assert all(record[key] == mine[key] for key in ("format", "tasks", "base", "scales", "tensors", "plan"))


def test_the_card_says_what_it_is_how_it_was_made_and_how_a_task_is_read(plain: HubServer, tmp_path: Path) -> None:
    store = stored(plain, tmp_path)
    push(store, NAME, hub=hub_of(plain))
    card = ModelCard(plain.contents(NAME)["README.md"].decode())
    assert card.data.to_dict() == {
        "base_model": ["tester/base"],
        "base_model_relation": "merge",
        "tags": ["merging-store", "merging", "emr"],
        "license": "other",
        "license_name": "several-licences",
    }
    text = card.text
    for said in (
        "This is no model by itself. It keeps the tasks of 2 fine-tunes of [`tester/base`]",
        f"| `tuned-2` | `store:{NAME}#tuned-2` | `tuned-2` |",
        f"- model: store:{NAME}#tuned-1",
        f"merging inspect 'store:{NAME}#tuned-1'",
        "arXiv:2405.17461",
        "`store.json` holds them whole",
        f"base_model: tester/base@{json.loads((store / 'store.json').read_text())['base']['source'].partition('@')[2]}",
        "merging compress recipe.yaml FOLDER/",
        "`tester/base`: `mit`",
        "are local models whose licence this card does not know",
        "Every entry is a finite number",
    ):
        assert said in text, said
    assert "merging.json" not in text


def test_a_recipe_from_the_card_reads_the_task(plain: HubServer, tmp_path: Path) -> None:
    store = stored(plain, tmp_path)
    push(store, NAME, hub=hub_of(plain))
    text = plain.contents(NAME)["README.md"].decode()
    written = text.partition("## Tasks")[2].partition("```yaml\n")[2].partition("```")[0]
    merge(written, tmp_path / "task", fetch="ranges")
    there, here = open_source(str(tmp_path / "task")), open_source(f"store:{store}#1")
    assert all(torch.equal(bits(there.read(name)), bits(here.read(name))) for name in here.specs)


@pytest.mark.parametrize("base", ["local", "adapter"])
def test_a_base_model_that_nobody_finds_is_in_the_way_before_the_hub_is_asked(
    base: str, plain: HubServer, tmp_path: Path
) -> None:
    store = stored(plain, tmp_path)
    record = json.loads((store / "store.json").read_text())
    shutil.copytree(tmp_path / "family" / "base", tmp_path / "base")
    if base == "local":
        compress(recipe_of(tiny.family(tmp_path / "family", models=2), "emr"), store, overwrite=True)
    else:
        record["base"]["source"] += "+../lora"
        (store / "store.json").write_text(json.dumps(record))
    before = len(plain.requests)
    with pytest.raises(OutputError, match="which nobody finds from the Hub") as caught:
        push(store, NAME, hub=hub_of(plain))
    assert "write `base_model: owner/name` into the recipe" in str(caught.value.fix)
    assert len(plain.requests) == before


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda store: (store / "mask-2.safetensors").unlink(), "shards are missing: mask-2.safetensors"),
        (lambda store: (store / "mask-2.safetensors").write_bytes(b"no"), "mask-2.safetensors"),
        (lambda store: (store / "merging-ledger.jsonl").write_text("{}\n"), "ledger"),
        (lambda store: (store / "merging-ledger.jsonl").write_text(""), "in the weights or in the ledger only"),
        (lambda store: (store / "store.json").write_text("[]"), "no record"),
        (lambda store: (store / "store.json").write_text('{"a": 1}'), "the store's format is None"),
        (lambda store: (store / ".merging").mkdir(), "is not finished"),
        (lambda store: (store / "vector.safetensors.partial").write_text(""), "is not finished"),
        (lambda store: _lead_out(store / "mask-1.safetensors"), "leads out of its folder"),
        (lambda store: _lead_out(store / "tokenizer.json"), "leads out of its folder"),
    ],
)
def test_a_store_that_is_not_whole_is_refused(
    harm: Callable[[Path], object], says: str, plain: HubServer, tmp_path: Path
) -> None:
    store = stored(plain, tmp_path)
    harm(store)
    with pytest.raises(MergingError) as caught:
        store_manifest(store)
    assert says in str(caught.value)


def _lead_out(path: Path) -> None:
    path.rename(path.parent.parent / "secret")
    path.symlink_to(path.parent.parent / "secret")


def test_weights_of_another_model_go_only_if_asked_and_their_record_with_them(plain: HubServer, tmp_path: Path) -> None:
    store = stored(plain, tmp_path)
    old = {"model.safetensors": b"old", "merging.json": b"{}", "data.csv": b"1", "mask-3.safetensors": b"old"}
    plain.add(NAME, old)
    with pytest.raises(HubError, match="weights of another model"):
        push(store, NAME, hub=hub_of(plain))
    assert set(outlook_of(plain, store, NAME, replace=True).stale) == set(old) - {"data.csv"}
    push(store, NAME, replace=True, hub=hub_of(plain))
    assert set(plain.contents(NAME)).intersection(old) == {"data.csv"}
    merge(f"merge_method: passthrough\nmodels:\n- model: store:{NAME}#1\n", tmp_path / "merged")
    push(tmp_path / "merged", NAME, replace=True, hub=hub_of(plain))
    assert "store.json" not in plain.contents(NAME)
    assert open_source(NAME).specs


def test_a_merge_of_a_task_names_store_and_base_model_on_its_card(plain: HubServer, tmp_path: Path) -> None:
    push(stored(plain, tmp_path), NAME, hub=hub_of(plain))
    merge(f"merge_method: passthrough\nmodels:\n- model: store:{NAME}#1\n", tmp_path / "merged")
    push(tmp_path / "merged", "tester/task", hub=hub_of(plain))
    card = ModelCard(plain.contents("tester/task")["README.md"].decode())
    assert card.data.base_model == [NAME, "tester/base"]
    assert f"- model: store:{NAME}@{plain.head(NAME)}#1" in card.text


def test_hostile_names_of_tasks_stay_text(plain: HubServer, tmp_path: Path) -> None:
    store = stored(plain, tmp_path)
    record = json.loads((store / "store.json").read_text())
    record["tasks"] = ["`|<script>", "a'; rm -rf ~\n```\n# b"]
    (store / "store.json").write_text(json.dumps(record))
    push(store, NAME, hub=hub_of(plain))
    text = plain.contents(NAME)["README.md"].decode()
    assert "<script>" not in text.replace("`` store:tester/tasks#`¦<script> ``", "").replace(
        "`` `¦<script> ``", ""
    ).replace("store:tester/tasks#`|<script>", "")
    assert "\n# b" not in text
    assert open_source(f"store:{NAME}#2").specs


def test_the_command_publishes_a_store(plain: HubServer, tmp_path: Path) -> None:
    store = stored(plain, tmp_path)
    shown = CliRunner().invoke(command, [str(store), NAME, "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert "mask-2.safetensors" in shown.stdout
    assert f"store:{NAME}#tuned-1" in shown.stdout
    done = CliRunner().invoke(command, [str(store), NAME])
    assert done.exit_code == 0, done.output
    assert plain.state.repositories[NAME].at("main").title == "Store of 2 tasks by emr, with merging"
