"""Pieces held in memory: a budget that holds, failures that do not stick."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from merging.hub.pages import Pages


def test_the_least_recently_used_piece_goes_first() -> None:
    pages, fetched = Pages(budget=30), list[str]()

    def fetch(name: str) -> bytes:
        fetched.append(name)
        return name.encode() * 10

    for name in ("a", "b", "c", "a", "d", "a", "b"):
        assert pages.get(name, 10, lambda name=name: fetch(name)) == name.encode() * 10  # type: ignore[misc]
    assert fetched == ["a", "b", "c", "d", "b"]


def test_nothing_is_fetched_ahead_beyond_the_budget() -> None:
    gate, pages = Event(), Pages(budget=25)

    def fetch() -> bytes:
        gate.wait(10)
        return b"x" * 10

    assert [pages.ask(i, 10, fetch) for i in range(4)] == [True, True, False, False]
    assert pages.ask(0, 10, fetch)
    gate.set()
    assert pages.get(3, 10, fetch) == b"x" * 10


def test_a_piece_that_failed_is_asked_for_anew() -> None:
    pages, tries = Pages(), iter([OSError("lost"), b"here"])

    def fetch() -> bytes:
        found = next(tries)
        if isinstance(found, OSError):
            raise found
        return found

    with pytest.raises(OSError, match="lost"):
        pages.get("key", 4, fetch)
    assert pages.get("key", 4, fetch) == b"here"


def test_many_readers_of_one_piece_fetch_it_once() -> None:
    pages, calls = Pages(), list[int]()

    def fetch() -> bytes:
        calls.append(1)
        return b"one"

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: pages.get("key", 3, fetch), range(50)))
    assert set(found) == {b"one"}
    assert len(calls) == 1


def test_forgotten_pieces_free_their_room() -> None:
    pages = Pages(budget=10)
    pages.get(("file", 0), 10, lambda: b"x" * 10)
    pages.forget(lambda key: key == ("file", 0))
    assert pages.ask(("other", 0), 10, lambda: b"y" * 10)
