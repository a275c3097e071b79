"""Asking somebody who may not answer: what a page gets, and how long it waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from merging import MergingError
from ui.questions import FRESH, REFUSED, Questions, StillAsking


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Teller:
    """Somebody who answers with a number one higher each time, when allowed to; `fails` while he refuses."""

    def __init__(self) -> None:
        self.answers = 0
        self.fails = False
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self) -> int:
        self.may_answer.wait()
        if self.fails:
            raise MergingError("no")
        self.answers += 1
        return self.answers


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def teller() -> Iterator[Teller]:
    found = Teller()
    yield found
    found.may_answer.set()


def patient(clock: Callable[[], float]) -> Questions:
    return Questions(patience=30.0, clock=clock)


def until_answered(questions: Questions, key: str, work: Teller) -> int:
    """The answer once it is there, looked for as a page does."""
    while True:
        try:
            return questions.ask(key, work, key)
        except StillAsking:
            continue


def test_an_answer_is_given_again_without_asking(clock: Clock, teller: Teller) -> None:
    questions = patient(clock)
    assert [questions.ask("a", teller, "a") for _ in range(3)] == [1, 1, 1]
    assert questions.ask("b", teller, "b") == 2


def test_an_old_answer_is_shown_while_it_is_renewed_and_when_that_fails(clock: Clock, teller: Teller) -> None:
    questions = patient(clock)
    assert questions.ask("a", teller, "a") == 1
    clock.now = FRESH + 1
    teller.may_answer.clear()
    assert questions.ask("a", teller, "a") == 1
    assert not questions.is_waiting()
    teller.fails = True
    teller.may_answer.set()
    assert questions.ask("a", teller, "a") == 1


def test_what_must_be_fresh_is_never_older_than_said(clock: Clock, teller: Teller) -> None:
    questions = patient(clock)
    assert questions.ask("a", teller, "a", lasts=5) == 1
    clock.now = 4
    assert questions.ask("a", teller, "a", lasts=5) == 1
    clock.now = 6
    assert questions.ask("a", teller, "a", lasts=5) == 2


def test_a_refusal_holds_for_a_while_and_can_be_forgotten(clock: Clock, teller: Teller) -> None:
    questions = patient(clock)
    teller.fails = True
    for _ in range(2):
        with pytest.raises(MergingError, match="no"):
            questions.ask("a", teller, "a")
    teller.fails = False
    assert questions.is_refused()
    with pytest.raises(MergingError, match="no"):
        questions.ask("a", teller, "a")
    questions.forget_refusals()
    assert questions.ask("a", teller, "a") == 1
    teller.fails = True
    with pytest.raises(MergingError, match="no"):
        questions.ask("b", teller, "b")
    teller.fails = False
    clock.now += REFUSED + 1
    assert questions.ask("b", teller, "b") == 2


def test_who_does_not_answer_is_waited_for_once_and_asked_once(clock: Clock, teller: Teller) -> None:
    questions = Questions(patience=0.05, clock=clock)
    teller.may_answer.clear()
    for key in ("a", "b", "a"):
        with pytest.raises(StillAsking, match="no answer yet"):
            questions.ask(key, teller, key)
    assert questions.is_waiting()
    teller.may_answer.set()
    assert {until_answered(questions, key, teller) for key in ("a", "b")} == {1, 2}
    assert teller.answers == 2
    assert not questions.is_waiting()


def test_a_mistake_of_the_one_who_asks_is_told_as_an_error(clock: Clock) -> None:
    def broken() -> int:
        raise ZeroDivisionError

    with pytest.raises(MergingError, match="ZeroDivisionError"):
        patient(clock).ask("a", broken, "a")
