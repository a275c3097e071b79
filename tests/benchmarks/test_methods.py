from __future__ import annotations

import pytest

from benchmarks import methods as bench
from merging.algebra.windows import sampled_entries
from merging.methods.declare import all_methods
from merging.methods.describe import readings, reads_all
from merging.methods.rounds import is_planned

METHODS = all_methods()
MEASURING = [name for name, method in METHODS.items() if method.needs.measure]


@pytest.fixture(autouse=True)
def _each_entry_takes_a_nanosecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_nanoseconds", lambda *_: 1.0)


@pytest.mark.parametrize("name", MEASURING)
def test_the_rounds_that_are_timed_are_those_of_a_merge(name: str) -> None:
    method = METHODS[name]
    timing = bench.time_method(method, 3, 64)
    told = {key: value for key, value in bench.ORDINARY.items() if key in method.parameters}
    values = {**method.defaults(), **{key: 1.0 for key in method.parameters if key not in method.defaults()}, **told}
    planned = method.needs.readings(values)
    assert list(timing.rounds) == [step.__name__ for step in planned]
    assert all(is_planned(step) for step in planned)
    assert timing.readings == 1 + sum(map(reads_all, planned))
    assert readings(method)[0] <= timing.readings <= readings(method)[1]


def test_a_sample_counts_by_the_share_of_entries_that_it_looks_at() -> None:
    timing = bench.time_method(METHODS["ties"], 3, 64)
    assert timing.rounds == {"thresholds_sampled": 1 / 32, "thresholds_counted": 1.0}
    assert timing.nanoseconds_per_entry == 2 + 1 / 32
    assert sampled_entries(bench.LARGE) * 32 == bench.LARGE
