"""Questions to somebody who may not answer: asked in the background, answered from what is known."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from merging import MergingError

T = TypeVar("T")
# Seconds that a page waits for an answer; how long one holds, and how long a refusal does.
PATIENCE, FRESH, REFUSED = 4.0, 300.0, 20.0
# After one wait in vain, others are given no more than this for a while: a page asks several questions.
IMPATIENCE, SILENCE = 0.1, 30.0
MOST = 128


class StillAsking(MergingError):
    """There is no answer yet; it is on its way, and a later look may find it."""


@dataclass
class _Asked:
    """One question: the answer to come, when it came, and the good one before it."""

    coming: Future[Any] = field(default_factory=Future)
    before: Future[Any] | None = None
    ended: float = 0.0

    def is_good(self) -> bool:
        return self.coming.done() and self.coming.exception() is None


class Questions:
    """Questions by key, and what was answered. `clock` counts seconds; may be used from several threads."""

    def __init__(self, patience: float = PATIENCE, clock: Callable[[], float] = time.monotonic):
        self._patience = patience
        self._clock = clock
        self._asked: OrderedDict[Hashable, _Asked] = OrderedDict()
        self._silent_until = float("-inf")
        self._lock = threading.Lock()

    def begin(self, key: Hashable, work: Callable[[], object]) -> None:
        """Have a question asked, and wait for nothing."""
        self._entry(key, work)

    def ask(self, key: Hashable, work: Callable[[], T], what: str, *, lasts: float | None = None) -> T:
        """The answer of `work`, from a moment ago where there is one; while it is renewed, or cannot be, the old one.

        With `lasts` an answer is forgotten after so many seconds, and no older one is given. Raises what `work` raised,
        and StillAsking while there is no answer.
        """
        asked = self._entry(key, work, lasts)
        if not asked.is_good() and asked.before is not None:
            return asked.before.result()  # type: ignore[no-any-return]
        silent = self._clock() < self._silent_until
        try:
            answer: T = asked.coming.result(min(IMPATIENCE, self._patience) if silent else self._patience)
        except TimeoutError:
            if not silent:
                self._silent_until = self._clock() + SILENCE
            raise StillAsking(
                f"there is no answer yet: {what}",
                fix="it is still being asked for; the rest of the page can be used meanwhile",
            ) from None
        except MergingError as error:
            raise error.with_traceback(None) from None
        self._silent_until = float("-inf")
        return answer

    def is_waiting(self) -> bool:
        """Whether any first answer is still to come."""
        with self._lock:
            return any(not asked.coming.done() and asked.before is None for asked in self._asked.values())

    def is_refused(self) -> bool:
        """Whether any question was answered with an error."""
        with self._lock:
            return any(asked.coming.done() and not asked.is_good() for asked in self._asked.values())

    def forget_refusals(self) -> None:
        """Ask anew, at the next look, what was refused or is still without an answer."""
        with self._lock:
            for key in [key for key, asked in self._asked.items() if not asked.is_good()]:
                del self._asked[key]
            self._silent_until = float("-inf")

    def _entry(self, key: Hashable, work: Callable[[], object], lasts: float | None = None) -> _Asked:
        with self._lock:
            asked = self._asked.get(key)
            if asked is None or self._is_old(asked, lasts):
                before = None if asked is None or lasts else asked.coming if asked.is_good() else asked.before
                asked = self._asked[key] = _Asked(before=before)
                # A daemon: a server that ends does not wait for others to answer.
                threading.Thread(target=self._answer, args=(asked, work), daemon=True).start()
            self._asked.move_to_end(key)
            while len(self._asked) > MOST:
                self._asked.popitem(last=False)
            return asked

    def _is_old(self, asked: _Asked, lasts: float | None) -> bool:
        if not asked.coming.done():
            return False
        return self._clock() - asked.ended > ((lasts or FRESH) if asked.is_good() else REFUSED)

    def _answer(self, asked: _Asked, work: Callable[[], object]) -> None:
        try:
            answer = work()
        except MergingError as error:
            failure: BaseException = error
        except Exception as error:
            failure = MergingError(f"the Hub could not be asked: {type(error).__name__}")
        else:
            asked.ended = self._clock()
            asked.coming.set_result(answer)
            return
        asked.ended = self._clock()
        asked.coming.set_exception(failure)
