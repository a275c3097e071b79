"""What is told of a merge to the Hub before it begins is what then happens, and telling it changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import merging
from merging.engine.run import run
from merging.errors import HubError, MergingError
from merging.planning.build import plan as make_plan
from merging.planning.plan import Plan
from merging.publish.delivering import HubDelivery
from merging.publish.foresight import foresee
from merging.publish.upload import Target
from tests import tiny
from tests.hub.server import HubServer
from tests.publish.loopback import NAME, either, hub_of, plain, xet

__all__ = ["either", "plain", "xet"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


@pytest.fixture
def wish(tmp_path: Path) -> Plan:
    family = tiny.family(tmp_path / "family", models=2, dtype=torch.bfloat16)
    models = [{"model": str(place), "parameters": {"weight": 0.5}} for place in family.tuned]
    recipe = {"merge_method": "task_arithmetic", "base_model": str(family.base), "models": models}
    return make_plan(merging.write_yaml(recipe), shard_bytes=(family.base / "model.safetensors").stat().st_size // 2)


def test_the_weights_that_are_foreseen_are_those_that_arrive(either: HubServer, wish: Plan, tmp_path: Path) -> None:
    found = foresee(wish, NAME, hub=hub_of(either))
    assert found.is_new and found.private and found.card == "README.md"
    list(run(wish, tmp_path / "out", deliver=HubDelivery(hub_of(either), Target(NAME))))
    there = either.contents(NAME)
    arrived = {path: len(content) for path, content in there.items() if path.endswith(".safetensors")}
    assert dict(found.weights) == arrived and found.nbytes == sum(arrived.values())
    again = foresee(wish, NAME, hub=hub_of(either))
    assert not again.is_new and again.parent == either.head(NAME)
    assert set(arrived) < set(again.replaced)


def test_foreseeing_changes_nothing_and_spares_what_a_person_wrote(plain: HubServer, wish: Plan) -> None:
    plain.add(NAME, {"README.md": b"# Mine\n", "notes.txt": b"mine"})
    head = plain.head(NAME)
    found = foresee(wish, NAME, hub=hub_of(plain))
    assert (found.card, found.kept) == ("MERGE.md", ("notes.txt",))
    assert plain.head(NAME) == head


def test_weights_of_another_model_and_a_missing_token_are_in_the_way(plain: HubServer, wish: Plan) -> None:
    plain.add(NAME, {"pytorch_model.bin": b"theirs"})
    with pytest.raises(MergingError, match="weights of another model"):
        foresee(wish, NAME, hub=hub_of(plain))
    with pytest.raises(HubError, match="names no repository"):
        foresee(wish, "not a name", hub=hub_of(plain))
