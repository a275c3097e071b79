"""One commit in the making: bytes once, everything visible together, and compared afterwards."""

from __future__ import annotations

import warnings
from hashlib import sha256
from pathlib import Path

import pytest
from huggingface_hub.utils import _runtime as runtime

from merging.errors import HubError, HubWarning
from merging.publish.upload import Published, Sent
from tests.hub.server import Fault, HubServer
from tests.publish.loopback import (
    CARD,
    NAME,
    SMALL,
    WEIGHTS,
    begin,
    commits,
    either,
    plain,
    published,
    uploaded,
    weights,
    xet,
)

__all__ = ["either", "plain", "weights", "xet"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


def test_what_was_sent_becomes_visible_in_one_commit(either: HubServer, weights: Path) -> None:
    publication = begin(either)
    before = either.head(NAME)
    sent = publication.send(weights.name, weights)
    assert (sent.size, sent.sha256) == (len(WEIGHTS), sha256(WEIGHTS).hexdigest())
    assert either.head(NAME) == before == publication.parent
    made = publication.commit([sent], SMALL, "a merge")
    publication.verify(made, {weights.name: sent, **SMALL})
    held = either.contents(NAME)
    assert {path: held[path] for path in (weights.name, *SMALL)} == {weights.name: WEIGHTS, **SMALL}
    assert made.commit == either.head(NAME)
    assert made.url == f"{either.endpoint}/{NAME}/commit/{made.commit}"
    assert commits(either) == 1


@pytest.mark.parametrize("target", [{"branch": "try"}, {"branch": "with/slash"}, {"pull_request": True}])
def test_a_branch_or_a_pull_request_leaves_main_alone(
    either: HubServer, weights: Path, target: dict[str, object]
) -> None:
    head = either.add(NAME, {"old.txt": b"old"})
    made = published(either, weights, **target)
    assert either.head(NAME) == head
    revision = str(target.get("branch", "refs/pr/1"))
    assert either.head(NAME, revision) == made.commit
    assert either.contents(NAME, revision)[weights.name] == WEIGHTS
    assert made.pull_request == (f"{either.endpoint}/{NAME}/discussions/1" if "pull_request" in target else None)


def test_a_pull_request_may_be_written_to_again(plain: HubServer, weights: Path) -> None:
    plain.add(NAME, {"old.txt": b"old"})
    published(plain, weights, pull_request=True)
    weights.write_bytes(WEIGHTS[::-1])
    made = published(plain, weights, branch="refs/pr/1")
    assert plain.head(NAME, "refs/pr/1") == made.commit
    with pytest.raises(HubError, match="no pull request refs/pr/7"):
        begin(plain, branch="refs/pr/7")


def test_a_stranger_may_propose(plain: HubServer, weights: Path) -> None:
    plain.add(NAME, {"old.txt": b"old"})
    publication = begin(plain, plain.stranger_token, pull_request=True)
    made = publication.commit([publication.send(weights.name, weights)], SMALL, "a merge")
    assert made.pull_request


def test_what_an_earlier_run_sent_is_known_and_may_be_committed(either: HubServer, weights: Path) -> None:
    sent = begin(either).send(weights.name, weights)
    before = uploaded(either)
    publication = begin(either)
    assert publication.holds(sent)
    assert not publication.holds(Sent("other.safetensors", 5, "0" * 64))
    assert not publication.holds(Sent("other.safetensors", 5, "0" * 64, "1" * 64))
    made = publication.commit([sent], SMALL, "a merge")
    publication.verify(made, {weights.name: sent, **SMALL})
    assert uploaded(either) == before
    assert either.contents(NAME)[weights.name] == WEIGHTS


def test_xet_does_not_come_back_while_another_file_goes_on_without_it(
    xet: HubServer, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as that takes the client says that there is no Xet at all."""
    xet.fail(Fault("", "/xorbs/", times=999, status=403))
    publication = begin(xet)
    with pytest.warns(HubWarning, match="going on without it"):
        publication.send(weights.name, weights)
    other = weights.with_name("other.safetensors")
    other.write_bytes(weights.read_bytes() + b"more")
    really, moment = runtime.is_xet_available, iter([False])
    monkeypatch.setattr(runtime, "is_xet_available", lambda: next(moment, really()))
    with warnings.catch_warnings():
        warnings.simplefilter("error", HubWarning)
        publication.send(other.name, other)


def test_an_upload_that_is_refused_names_the_file(plain: HubServer, weights: Path) -> None:
    plain.fail(Fault("PUT", "/upload/", times=99, status=403))
    publication = begin(plain)
    with pytest.raises(HubError, match=weights.name) as told:
        publication.send(weights.name, weights)
    assert "Signature" not in str(told.value)


def test_bytes_that_arrive_changed_are_noticed(plain: HubServer, weights: Path) -> None:
    publication = begin(plain)
    sent = publication.send(weights.name, weights)
    made = publication.commit([sent], SMALL, "a merge")
    plain.add(NAME, {weights.name: WEIGHTS[::-1], "config.json": b"[]"})
    wrong = Published(NAME, plain.head(NAME), made.url)
    with pytest.raises(HubError, match="does not hold what was sent") as told:
        publication.verify(wrong, {weights.name: sent, **SMALL, "absent.json": b""})
    where = told.value.where or ""
    assert [word in where for word in ("model.safetensors", "config.json", "absent.json", "README")] == [
        True,
        True,
        True,
        False,
    ]


def test_a_commit_that_cannot_be_verified_says_that_it_was_made(plain: HubServer, weights: Path) -> None:
    publication = begin(plain)
    sent = publication.send(weights.name, weights)
    made = publication.commit([sent], SMALL, "a merge")
    plain.fail(Fault("GET", "", times=99, status=500))
    with pytest.raises(HubError, match="was made, but cannot be verified"):
        publication.verify(made, {weights.name: sent})


def test_a_card_that_the_hub_does_not_take_is_known_before_anything_is_sent(plain: HubServer) -> None:
    publication = begin(plain)
    with pytest.raises(HubError, match=r"head of README\.md") as told:
        publication.check_card(b"---\ntags: one\n---\n")
    assert "tags" in (told.value.where or "")
    publication.check_card(CARD)


def test_a_gitignore_that_would_swallow_a_file_is_named(plain: HubServer) -> None:
    publication = begin(plain)
    with pytest.raises(HubError, match=r"leaves out config\.json"):
        publication.commit([], {".gitignore": b"config.json\n", **SMALL}, "a merge")
