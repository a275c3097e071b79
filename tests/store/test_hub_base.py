"""A store whose base model is a repository: named by its commit, and fetched in every way there is."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

from merging.engine.compress import compress
from merging.engine.merge import merge
from merging.hub.fetching import Fetch
from merging.recipe.source import find_source, open_source
from merging.store.tasks import TaskStore
from tests import tiny
from tests.hub.server import HubServer
from tests.remote import cache, folder_files, server
from tests.store.stores import bits

__all__ = ["cache", "server"]

RECIPE = "merge_method: emr\nbase_model: tester/base\nmodels:\n- model: tester/tuned-1\n- model: tester/tuned-2\n"


@pytest.mark.parametrize("fetch", get_args(Fetch))
def test_the_base_is_read_at_the_commit_that_was_kept(fetch: Fetch, server: HubServer, tmp_path: Path) -> None:
    family = tiny.family(tmp_path / "family", models=2, shards=2, dtype=torch.bfloat16)
    commits = {
        place.name: server.add(f"tester/{place.name}", folder_files(place)) for place in (family.base, *family.tuned)
    }
    compress(RECIPE, tmp_path / "store", fetch="ranges")
    named = TaskStore(tmp_path / "store").record.base
    assert named == f"hf://tester/base@{commits['base']}"
    server.add("tester/base", folder_files(family.tuned[0]))
    source = f"store:{tmp_path / 'store'}#tuned-2"
    assert [str(place) for place in find_source(source).places[1:]] == [named.removeprefix("hf://")]
    merge(f"merge_method: passthrough\nmodels:\n- model: '{source}'\n", tmp_path / "written", fetch=fetch)
    local = f"merge_method: emr\nbase_model: {family.base}\nmodels:\n- model: {family.tuned[0]}\n"
    merge(f"{local}- model: {family.tuned[1]}\nparameters: {{task: 2}}\n", tmp_path / "merged")
    written, merged = open_source(str(tmp_path / "written")), open_source(str(tmp_path / "merged"))
    assert all(torch.equal(bits(written.read(name)), bits(merged.read(name))) for name in merged.specs)
