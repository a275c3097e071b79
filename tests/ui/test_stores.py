"""Tasks of stores in the workbench: opened like models, and where a page may not look they are refused like paths."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from merging import contents
from tests import tiny
from tests.hub.server import HubServer
from tests.remote import cache, folder_files, server
from tests.store.stores import kept_of
from tests.ui.hub_pages import of_weights
from ui import remote
from ui.places import ROOTS, refusal, short, stamp

__all__ = ["cache", "server"]


@pytest.fixture
def there(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """A store in a repository, on a base model in another."""
    from merging.engine.compress import compress

    family = tiny.family(tmp_path / "family", models=2)
    server.add("tester/base", folder_files(family.base))
    recipe = "merge_method: emr\nbase_model: tester/base\nmodels:\n" + "".join(
        f"- model: {place}\n" for place in family.tuned
    )
    compress(recipe, tmp_path / "made", fetch="ranges")
    server.add("tester/tasks", folder_files(tmp_path / "made"))
    monkeypatch.setenv(ROOTS, str(tmp_path))
    remote.questions.clear()
    return server


def test_a_task_on_the_hub_is_listed_from_headers_and_planned_in_any_way_of_fetching(there: HubServer) -> None:
    source = "store:tester/tasks#tuned-2"
    assert (refusal(source), remote.repositories(source), short(source)) == (None, ("tester/tasks",), "tasks#tuned-2")
    before = of_weights(there)
    opened = remote.opened(source)
    assert contents(opened).family == "llama"
    assert of_weights(there) - before < 100_000
    planned = remote.as_fetched(opened, "shards")
    assert [part.fetch for part in planned.made_of] == ["shards", "shards"]  # type: ignore[attr-defined]
    assert [part.fetch for part in opened.made_of] == ["ranges", "ranges"]  # type: ignore[attr-defined]
    assert [name.partition("@")[0] for name in remote.commits(source)] == ["tester/tasks", "tester/base"]
    assert [name.partition("@")[0] for name, _, _ in stamp(source)] == ["tester/base", "tester/tasks"]


def test_the_hub_may_be_out_of_bounds(there: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remote.SWITCH, "off")
    before = len(there.requests)
    assert "does not ask the Hub" in str(refusal("store:tester/tasks#1"))
    assert len(there.requests) == before


@pytest.mark.parametrize("source", ["store:{}/store#1", "store:{}/stoer#1", "store:{}", "store:/etc/passw#1"])
def test_a_store_outside_the_roots_is_refused(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_of(tmp_path / "outside", kind="llama", models=2)
    (tmp_path / "inside").mkdir()
    monkeypatch.setenv(ROOTS, str(tmp_path / "inside"))
    assert "lies outside" in str(refusal(source.format(tmp_path / "outside")))


def test_a_local_store_that_changes_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = kept_of(tmp_path, kind="llama", models=2)
    monkeypatch.setenv(ROOTS, str(tmp_path))
    source = f"store:{kept.folder}#1"
    before = stamp(source)
    assert {name for name, _, _ in before} >= {"store.json", "vector.safetensors", "model.safetensors"}
    shutil.copy(kept.folder / "mask-2.safetensors", kept.folder / "mask-1.safetensors")
    assert stamp(source) != before
