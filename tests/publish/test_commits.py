"""A commit is made once, whatever happens to its answer, and never on top of somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from merging.errors import HubError
from tests.hub.server import Fault, HubServer
from tests.publish.loopback import NAME, SMALL, begin, commits, plain, published, uploaded, weights

__all__ = ["plain", "weights"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


def test_a_branch_that_moves_while_files_are_sent_is_not_committed_to(plain: HubServer, weights: Path) -> None:
    plain.add(NAME, {"old.txt": b"old"})
    publication = begin(plain)
    sent = publication.send(weights.name, weights)
    moved = plain.add(NAME, {"old.txt": b"newer"})
    with pytest.raises(HubError, match="has moved on"):
        publication.commit([sent], SMALL, "a merge")
    assert plain.head(NAME) == moved
    again = begin(plain)
    assert again.holds(sent)
    before = uploaded(plain)
    assert again.commit([sent], SMALL, "a merge").commit == plain.head(NAME)
    assert uploaded(plain) == before


@pytest.mark.parametrize("target", [{}, {"branch": "try"}, {"pull_request": True}])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_whose_answer_is_lost_is_made_once(
    plain: HubServer, weights: Path, target: dict[str, object], when: str
) -> None:
    plain.add(NAME, {"old.txt": b"old"})
    plain.fail(Fault("POST", f"{NAME}/commit/", drop=when))
    made = published(plain, weights, **target)
    assert made.commit == plain.head(NAME, str(target.get("branch", "refs/pr/1" if target else "main")))
    assert commits(plain) == (2 if when == "before" else 1)
    assert len(plain.state.repositories[NAME].commits) == 2
    assert len(plain.state.repositories[NAME].pulls) == ("pull_request" in target)
    assert (made.pull_request is not None) == ("pull_request" in target)


def test_where_the_hub_stays_silent_after_a_commit_the_next_run_finds_it(plain: HubServer, weights: Path) -> None:
    plain.add(NAME, {"old.txt": b"old"})
    plain.fail(Fault("POST", f"{NAME}/commit/", drop="after"))
    plain.fail(Fault("GET", f"{NAME}/refs", skip=1, times=99, drop="before"))
    with pytest.raises(HubError, match="cannot be told whether the commit"):
        published(plain, weights)
    plain.mend()
    head = plain.head(NAME)
    assert published(plain, weights).commit == head
    assert commits(plain) == 1


def test_the_same_again_makes_no_second_commit_and_no_second_pull_request(plain: HubServer, weights: Path) -> None:
    plain.add(NAME, {"old.txt": b"old"})
    first = published(plain, weights, pull_request=True)
    assert published(plain, weights, pull_request=True) == first
    made = published(plain, weights)
    assert published(plain, weights) == made
    assert commits(plain) == 2


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_hub_is_asked_again(plain: HubServer, weights: Path, status: int) -> None:
    for path in ("whoami", f"models/{NAME}$", "auth-check", f"{NAME}/refs", f"{NAME}/revision"):
        plain.fail(Fault("GET", path, status=status))
    plain.add(NAME, {"old.txt": b"old"})
    plain.fail(Fault("POST", f"{NAME}/commit/", times=2, status=status))
    made = published(plain, weights)
    assert made.commit == plain.head(NAME)
    assert plain.unmet() == []


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (400, "does not take it"),
        (401, "does not know the token"),
        (403, "may not"),
        (404, "no repository|answered 404|no such file"),
        (409, "has it already"),
        (412, "has moved on"),
        (429, "left alone"),
        (500, "answered 500"),
    ],
)
def test_every_refusal_of_a_commit_is_told_in_plain_words(
    plain: HubServer, weights: Path, status: int, says: str
) -> None:
    head = plain.add(NAME, {"old.txt": b"old"})
    plain.fail(Fault("POST", f"{NAME}/commit/", times=99, status=status))
    with pytest.raises(HubError, match=says) as told:
        published(plain, weights)
    assert plain.head(NAME) == head
    assert plain.token not in str(told.value)


def test_files_are_deleted_in_the_same_commit(plain: HubServer, weights: Path) -> None:
    plain.add(NAME, {"pytorch_model.bin": b"old", "keep.txt": b"1"})
    publication = begin(plain)
    sent = publication.send(weights.name, weights)
    made = publication.commit([sent], SMALL, "a merge", delete=["pytorch_model.bin", "never-there.bin"])
    publication.verify(made, {weights.name: sent}, gone=["pytorch_model.bin"])
    assert "pytorch_model.bin" not in plain.contents(NAME)
    assert plain.contents(NAME)["keep.txt"] == b"1"
    assert commits(plain) == 1
