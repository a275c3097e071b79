"""Where a merge would go: what is there, who may write there, and nothing changed by looking."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from merging.errors import HubError
from merging.publish.destination import look, make
from merging.publish.upload import Target
from tests.hub.server import Fault, HubServer
from tests.publish.loopback import NAME, begin, plain, published, weights
from tests.remote import client

__all__ = ["plain", "weights"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


def test_a_new_repository_is_private_unless_it_shall_not_be(plain: HubServer) -> None:
    assert begin(plain).private
    assert plain.state.repositories[NAME].private
    del plain.state.repositories[NAME]
    publication = begin(plain, private=False)
    assert publication.created
    assert not publication.private


def test_an_existing_repository_keeps_its_visibility_and_tells_its_files(plain: HubServer) -> None:
    commit = plain.add(NAME, {"old.txt": b"old"})
    publication = begin(plain)
    assert not publication.created
    assert not publication.private
    assert publication.parent == commit
    assert publication.existing["old.txt"].size == 3


@pytest.mark.parametrize(
    ("who", "says"),
    [("read_token", "may only read"), ("stranger_token", "may not"), ("nobody", "does not know the token")],
)
def test_who_may_not_write_is_told_before_anything_is_made_or_sent(plain: HubServer, who: str, says: str) -> None:
    plain.add(NAME, {"old.txt": b"old"})
    with pytest.raises(HubError, match=says):
        begin(plain, getattr(plain, who, "hf_unknownunknown"))
    assert {request.method for request in plain.requests} == {"GET"}


def test_a_stranger_makes_no_repository_in_the_name_of_another(plain: HubServer) -> None:
    with pytest.raises(HubError, match=f"may not: make the repository {NAME} as stranger"):
        begin(plain, plain.stranger_token)
    assert NAME not in plain.state.repositories


@pytest.mark.parametrize(
    ("repository", "target", "says"),
    [
        ("merged", {}, "names no repository"),
        ("a/b@c", {}, "names no repository"),
        ("hf://a/b", {}, "names no repository"),
        ("a/b", {"branch": "x y"}, "cannot be the name of a branch"),
        ("a/b", {"branch": "x", "pull_request": True}, "goes to main"),
        ("a/b", {"parent": "abc"}, "is no commit"),
        ("a/b", {"parent": "main"}, "is no commit"),
    ],
)
def test_nonsense_is_refused_without_a_request(
    plain: HubServer, repository: str, target: dict[str, object], says: str
) -> None:
    with pytest.raises(HubError, match=says):
        look(client(plain), Target(repository, **target))  # type: ignore[arg-type]
    assert plain.requests == []


def test_nothing_is_published_offline_or_without_a_token(plain: HubServer) -> None:
    for hub in (replace(client(plain), offline=True), replace(client(plain), token=None)):
        with pytest.raises(HubError, match=r"offline mode|no token"):
            look(hub, Target(NAME))
    assert plain.requests == []


def test_a_parent_that_is_not_the_head_is_refused_with_advice(plain: HubServer, weights: Path) -> None:
    first = plain.add(NAME, {"old.txt": b"old"})
    second = plain.add(NAME, {"old.txt": b"newer"})
    with pytest.raises(HubError, match="has moved on") as told:
        begin(plain, parent=first)
    assert second[:12] in (told.value.fix or "")
    assert published(plain, weights, parent=second[:10]).commit == plain.head(NAME)
    with pytest.raises(HubError, match="there is no tester/other"):
        look(client(plain), Target("tester/other", parent=first))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_repository_and_a_branch_whose_answers_are_lost_are_there_once(plain: HubServer, when: str) -> None:
    plain.fail(Fault("POST", "repos/create", drop=when))
    plain.fail(Fault("POST", "/branch/", drop=when))
    publication = begin(plain, branch="try")
    assert publication.created
    assert publication.private
    assert plain.head(NAME, "try") == publication.parent


def test_a_repository_that_comes_out_public_is_not_sent_to(plain: HubServer) -> None:
    plain.fail(Fault("POST", "repos/create", drop="before"))
    plain.add(NAME, {})
    found = replace(look(client(plain), Target(NAME)), pinned=None)
    with pytest.raises(HubError, match="should be private"):
        make(client(plain), Target(NAME), found)


def test_somebody_who_makes_the_same_repository_meanwhile_is_noticed(plain: HubServer) -> None:
    found = look(client(plain), Target(NAME))
    plain.add(NAME, {"theirs.txt": b"1"})
    with pytest.raises(HubError, match="has it already"):
        make(client(plain), Target(NAME), found)


def test_a_server_that_does_not_know_rights_is_written_to(plain: HubServer) -> None:
    plain.add(NAME, {"old.txt": b"old"})
    plain.fail(Fault("GET", "auth-check", status=404))
    assert begin(plain).parent == plain.head(NAME)
