"""Counting events, and what the counts say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.engine.events import Moved, PassStarted, RunStarted, Sealed, TensorDone, Warned
from merging.jobs.progress import Progress, Tally, progress_from


def test_events_add_up_and_only_sums_may_be_left_out() -> None:
    tally = Tally()
    told = [
        tally.add(event)
        for event in (
            RunStarted(tensors=4, read_bytes=200, written_bytes=100, kept_tensors=1, kept_bytes=100),
            Warned("look"),
            PassStarted("merge", 3),
            Moved(100, 50),
            TensorDone("a", 50, 0.1, 2),
        )
    ]
    assert told == [True, True, True, False, False]
    found = progress_from(tally.data(), "running")
    assert (found.read_bytes, found.written_bytes, found.tensors_done, found.tensors) == (100, 50, 2, 4)
    assert (found.total_read_bytes, found.total_written_bytes, found.pass_name) == (200, 100, "merge")
    # Half of the output was there before, and half of the rest is done.
    assert found.share == pytest.approx(0.75)
    assert found.seconds_left is not None
    assert tally.add(Sealed((Path("x"),), 1.0))
    assert progress_from(tally.data(), "done").share == 1.0


def test_pieces_without_bytes_are_counted_by_number() -> None:
    tally = Tally()
    tally.expect(10, kept=4)
    assert progress_from(tally.data(), "running").share == pytest.approx(0.4)
    for _ in range(3):
        assert tally.add(object())
    assert progress_from(tally.data(), "running").share == pytest.approx(0.7)


numbers = st.one_of(st.integers(-5, 10**12), st.floats(), st.none(), st.text(max_size=2), st.booleans())


@given(st.dictionaries(st.sampled_from([*Tally().data()]), numbers), st.sampled_from(["running", "done", "lost"]))
def test_whatever_a_state_file_holds_the_share_is_one(data: dict[str, object], state: str) -> None:
    data.pop("pass", None)
    found = progress_from(data, state)
    assert 0.0 <= found.share <= 1.0
    assert found.seconds_left is None or found.seconds_left >= 0
    assert progress_from({}, "queued") == Progress()
