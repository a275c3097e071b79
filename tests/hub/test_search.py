"""Finding models by name: what is told of each, what is left out, and how a Hub that cannot be asked is told."""

from __future__ import annotations

import json

import pytest

from merging.errors import HubError
from merging.hub.client import Hub
from merging.hub.search import Account, Found, _found, account, search
from tests.hub.server import Fault, HubServer
from tests.remote import AT_ONCE, cache, client, server

__all__ = ["cache", "server"]

CARD = b"---\nlicense: mit\nbase_model: ada/base\ntags: [merge]\n---\n# A model\n"
WEIGHTS = b"\x02\x00\x00\x00\x00\x00\x00\x00{}"


@pytest.fixture
def stocked(server: HubServer) -> HubServer:
    files = {"config.json": json.dumps({"model_type": "llama"}).encode(), "model.safetensors": WEIGHTS}
    server.add("ada/llama-base", files)
    server.add("ada/llama-tuned", {**files, "README.md": CARD}, gated=True)
    server.add("bob/llama-lora", {**files, "README.md": b"---\nlibrary_name: peft\n---\n"})
    server.add("bob/llama-pickle", {"pytorch_model.bin": b"x"})
    server.add("bob/llama-secret", files, private=True)
    return server


def names(found: tuple[Found, ...]) -> list[str]:
    return [each.id for each in found]


def test_models_with_safetensors_of_a_name_are_found_and_no_others(stocked: HubServer) -> None:
    found = search("LLaMA", client(stocked))
    assert names(found) == ["ada/llama-base", "ada/llama-tuned", "bob/llama-lora", "bob/llama-secret"]
    assert names(search("nothing like it", client(stocked))) == []


def test_an_owner_before_the_slash_looks_among_their_models_alone(stocked: HubServer) -> None:
    assert names(search("ada/llama", client(stocked))) == ["ada/llama-base", "ada/llama-tuned"]
    assert names(search("ada/", client(stocked))) == ["ada/llama-base", "ada/llama-tuned"]


def test_the_licence_the_gate_the_lineage_and_adapters_are_told(stocked: HubServer) -> None:
    base, tuned, lora, secret = search("llama", client(stocked))
    assert (tuned.license, tuned.gated, tuned.base_models) == ("mit", True, ("ada/base",))
    assert (base.license, base.gated, base.adapter, base.modified is None) == (None, False, False, False)
    assert lora.adapter and secret.private


def test_not_more_are_told_than_asked_for(stocked: HubServer) -> None:
    assert len(search("llama", client(stocked), limit=2)) == 2
    with pytest.raises(HubError, match="cannot find 0"):
        search("llama", client(stocked), limit=0)


def test_entries_and_bytes_are_those_of_the_safetensors_the_hub_has_counted() -> None:
    from huggingface_hub.hf_api import ModelInfo

    counted = {"parameters": {"BF16": 1_000, "F32": 10}, "total": 1_010}
    known = _found(ModelInfo(id="a/b", safetensors=counted, cardData={"license": "other", "license_name": "own"}))
    assert (known.entries, known.nbytes, known.license) == (1_010, 2_040, "own")
    strange = _found(ModelInfo(id="a/b", safetensors={"parameters": {"Q7": 3}, "total": 3}, tags=["license:mit"]))
    assert (strange.entries, strange.nbytes, strange.license) == (3, None, "mit")


def test_offline_nothing_is_asked_and_the_reason_is_told(server: HubServer) -> None:
    with pytest.raises(HubError, match="not searched in offline mode"):
        search("llama", Hub(server.endpoint, server.token, offline=True))
    assert account(Hub(server.endpoint, server.token, offline=True)) is None
    assert server.requests == []


def test_a_hub_that_fails_is_told_without_the_token(server: HubServer) -> None:
    server.fail(Fault("GET", "/api/models", status=400, times=9))
    with pytest.raises(HubError, match="a search for 'llama'") as caught:
        search("llama", client(server))
    assert server.token not in str(caught.value)


def test_a_token_tells_whose_it_is_and_whether_it_may_write(stocked: HubServer) -> None:
    assert account(client(stocked)) == Account("tester", ("ada", "bob"))
    assert account(client(stocked, stocked.read_token)) == Account("tester", ("ada", "bob"), may_write=False)
    assert account(Hub(stocked.endpoint, None, waits=AT_ONCE)) is None
    with pytest.raises(HubError, match="does not know the token"):
        account(client(stocked, "hf_0123456789"))
