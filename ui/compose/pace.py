"""How long a merge takes, judged by those that were carried out here before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import streamlit as st

from merging import Jobs, readable

# What blocks of tensors take on two cores and one disk: `benchmarks/results`, 1.1 B entries, from five methods.
STATED_BYTES_PER_SECOND = 600e6
# What was too short says nothing but how long a process takes to start.
LEAST_SECONDS, MOST_JOBS = 2.0, 5


class Pace(NamedTuple):
    """Bytes read and written in a second, where the number is from, in short and as a sentence."""

    bytes_per_second: float
    short: str
    says: str


def pace(method: str, plan: Mapping[str, Any] | None) -> Pace:
    """The pace of this method's last merges here, else the stated one: at best, where whole matrices are held."""
    found = _earlier(method, Jobs().root)
    if found:
        rate = median(found)
        return Pace(rate, "as before", f"At {readable(rate)} a second, as the last merges by {method} here.")
    whole = any("whole" in row["execution"] for row in plan["rows"]) if plan else False
    least = " Matrices are held whole, and their mathematics takes longer than reading them." if whole else ""
    says = f"At {readable(STATED_BYTES_PER_SECOND)} a second, measured on two cores; no merge by {method} ran here yet."
    return Pace(STATED_BYTES_PER_SECOND, "at least" if whole else "estimated", says + least)


@st.cache_data(ttl=30, max_entries=16, show_spinner=False)
def _earlier(method: str, root: Path) -> list[float]:
    jobs = (job for job in Jobs(root).all() if job.state == "done" and job.kind == "merge" and job.method == method)
    rates = (job.progress for job in jobs)
    long = [each.bytes_per_second for each in rates if each.seconds >= LEAST_SECONDS and each.bytes_per_second > 0]
    return long[:MOST_JOBS]


def about(seconds: float) -> str:
    """A duration as a person says it before it is over.

    >>> about(0.2), about(75), about(9_000)
    ('about 1 s', 'about 75 s', 'about 2.5 h')
    """
    for unit, size, most in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        if seconds < most * size:
            return f"about {max(1.0, float(f'{seconds / size:.2g}')):g} {unit}"
    return f"about {seconds / 86_400:.2g} days"
