"""Files sent while they are made, and what happens where Xet cannot be had or has changed."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import huggingface_hub.utils._xet as client_of_xet
import pytest

from merging.errors import HubError, HubWarning
from merging.publish import upload
from merging.publish.upload import Sent
from tests.hub.server import Fault, HubServer
from tests.publish.loopback import NAME, SMALL, WEIGHTS, begin, plain, weights, xet

__all__ = ["plain", "weights", "xet"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


def test_a_file_sent_while_it_is_made_is_the_same_file(xet: HubServer) -> None:
    publication = begin(xet)
    content = os.urandom(300_000)
    stream = publication.stream("model.safetensors", len(content))
    assert stream is not None
    for at in range(0, len(content), 70_000):
        stream.write(memoryview(content)[at : at + 70_000])
    sent = stream.finish()
    assert (sent.size, sent.sha256) == (len(content), sha256(content).hexdigest())
    assert begin(xet).holds(sent)
    made = publication.commit([sent], SMALL, "a merge")
    publication.verify(made, {"model.safetensors": sent, **SMALL})
    assert xet.contents(NAME)["model.safetensors"] == content


@pytest.mark.parametrize("length", [99, 101])
def test_a_stream_of_another_length_than_told_is_no_file(xet: HubServer, length: int) -> None:
    publication = begin(xet)
    stream = publication.stream("model.safetensors", 100)
    assert stream is not None
    with pytest.raises(HubError, match=r"ends after 99 bytes|longer than was told"):
        stream.write(memoryview(bytes(length)))
        stream.finish()


def test_without_xet_there_is_no_stream(plain: HubServer) -> None:
    assert begin(plain).stream("model.safetensors", 100) is None


def test_there_is_no_stream_where_the_client_is_not_as_expected(
    xet: HubServer, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publication = begin(xet)
    with monkeypatch.context() as changed:
        changed.setattr(upload, "_MARKS", {"_renamed"})
        assert publication.stream("model.safetensors", 100) is None
        assert not publication.holds(Sent("model.safetensors", 100, "0" * 64))
        sent = publication.send(weights.name, weights)
        made = publication.commit([sent], SMALL, "a merge")
    publication.verify(made, {weights.name: sent, **SMALL})
    monkeypatch.delattr(client_of_xet, "xet_headers_without_auth")
    assert publication.stream("model.safetensors", 100) is None


def test_xet_that_fails_is_done_without_and_said_once(xet: HubServer, weights: Path) -> None:
    xet.fail(Fault("GET", "xet-write-token", times=99, status=404))
    publication = begin(xet)
    with pytest.warns(HubWarning, match="going on without it") as told:
        assert publication.stream("model-1.safetensors", 100) is None
        sent = publication.send(weights.name, weights)
        assert publication.stream("model-2.safetensors", 100) is None
    assert len([each for each in told if each.category is HubWarning]) == 1
    made = publication.commit([sent], SMALL, "a merge")
    publication.verify(made, {weights.name: sent, **SMALL})
    assert xet.contents(NAME)[weights.name] == WEIGHTS


def test_signed_addresses_are_not_logged(plain: HubServer, weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    publication = begin(plain)
    plain.fail(Fault("PUT", "/upload/", status=500))
    publication.send(weights.name, weights)
    assert "HTTP Error 500" in caplog.text
    assert "Signature" not in caplog.text


def test_a_stream_that_is_given_up_leaves_nothing_and_the_next_one_is_whole(xet: HubServer) -> None:
    publication = begin(xet)
    for written in (b"", WEIGHTS[:1000]):
        given_up = publication.stream("model.safetensors", len(WEIGHTS))
        assert given_up is not None
        given_up.write(memoryview(written))
        given_up.abort()
    stream = publication.stream("model.safetensors", len(WEIGHTS))
    assert stream is not None
    stream.write(memoryview(WEIGHTS))
    assert stream.finish().sha256 == sha256(WEIGHTS).hexdigest()
    assert set(xet.state.xet.by_sha256) == {sha256(WEIGHTS).hexdigest()}


def test_a_stream_that_breaks_says_so_and_files_go_without_xet_from_then_on(xet: HubServer, weights: Path) -> None:
    publication = begin(xet)
    stream = publication.stream("model.safetensors", len(WEIGHTS))
    assert stream is not None
    xet.fail(Fault("POST", "/xorbs/", times=99, status=403))
    with pytest.raises(HubError, match="cannot be sent on as it is made"):
        stream.write(memoryview(WEIGHTS))
        stream.finish()
    assert publication.stream("model.safetensors", len(WEIGHTS)) is None
    assert publication.send(weights.name, weights).mark is None
