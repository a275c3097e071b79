"""A job beside another one: settings that differ, and how far apart the two results are, tensor by tensor."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import streamlit as st

from merging import Job, compare_ledgers, compare_merges, compare_recipes
from ui import boxes
from ui.jobs.status import moment, title
from ui.jobs.tensors import version
from ui.models import labels

Row = dict[str, Any]

MOST_ROWS = 5_000
# Comparisons that are remembered; each is a few numbers for every tensor.
MOST_KEPT = 8


def setting_rows(a: str, b: str) -> list[Row]:
    """Settings in which two recipes differ. Raises RecipeError when one of them cannot be read."""
    found = compare_recipes(a + "\n", b + "\n")
    named = [source for each in found if each.path == "models" for source in (*(each.left or ()), *(each.right or ()))]
    called = labels(tuple(dict.fromkeys(named)))
    return [
        {"setting": each.path, "this job": _spelled(each.left, called), "the other": _spelled(each.right, called)}
        for each in found
    ]


def _spelled(value: object, called: Mapping[str, str]) -> str:
    if isinstance(value, list | tuple) and value and all(isinstance(each, str) and each in called for each in value):
        return ", ".join(called[each] for each in value)
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)


def tensor_rows(found: Iterable[Any], norms: str) -> list[Row]:
    """Compared tensors as lines: the most different first, then those of which no distance is known."""
    rows = [
        {
            "tensor": each.tensor,
            "same bytes": each.same,
            "distance": _number(each.distance),
            f"{norms} here": _number(each.left_norm),
            f"{norms} there": _number(each.right_norm),
            "set otherwise": each.note,
        }
        for each in found
    ]
    return sorted(rows, key=lambda row: _rank(row, norms), reverse=True)


def _rank(row: Row, norms: str) -> tuple[bool, float, float]:
    here, there = row[f"{norms} here"], row[f"{norms} there"]
    apart = abs(here - there) / max(here, there, 1e-300) if here is not None and there is not None else 2.0
    return (not row["same bytes"], 1e300 if row["distance"] is None else row["distance"], apart)


def _number(value: float) -> float | None:
    return value if value == value else None


def others_of(job: Job, found: Sequence[Job]) -> list[Job]:
    """Jobs of its kind that it can be laid beside: those whose results are there first, the most alike of them."""
    alike = [each for each in found if each.id != job.id and each.kind == job.kind and each.recipe.strip()]
    mine = {line.strip() for line in job.recipe.splitlines()}

    def rank(each: Job) -> tuple[bool, bool, int]:
        shared = sum(line.strip() in mine for line in each.recipe.splitlines())
        return each.state != "done", not each.out.exists(), -shared

    return sorted(alike, key=rank)


def called(job: Job) -> str:
    """A job in a list of them."""
    return " · ".join((title(job), job.method, moment(job.created), job.state, job.id[-3:]))


def show_comparison(job: Job, found: Sequence[Job]) -> None:
    """The choice of the other job, and what sets the two apart."""
    others = {each.id: each for each in others_of(job, found)}
    if not others:
        boxes.empty("There is no other job to compare with yet. Run this one again with another setting.")
        return
    chosen = st.selectbox(
        "Compare with", list(others), format_func=lambda id: called(others[id]), key="jobs_other", index=0
    )
    other = others[str(chosen)]
    _settings(job, other)
    if job.kind == "merge":
        if job.state == other.state == "done":
            _tensors(job, other)
        else:
            boxes.empty("Results can be compared when both merges are done.", ":material/hourglass_empty:")
    boxes.command("jobs", "compare", job.id, other.id, *(["--tensors"] if job.kind == "merge" else []))


def _settings(job: Job, other: Job) -> None:
    st.markdown("**Settings**")
    with boxes.problems_shown():
        rows = setting_rows(job.recipe, other.recipe)
    if not rows:
        st.markdown("Both recipes ask for the same.")
        return
    st.dataframe(
        rows,
        hide_index=True,
        placeholder="–",
        key="jobs_settings",
        column_config={"setting": {"width": "medium"}, "this job": {"width": "large"}, "the other": {"width": "large"}},
        alt="Settings in which the two recipes differ",
    )


def _tensors(job: Job, other: Job) -> None:
    st.markdown("**Results**")
    with boxes.problems_shown():
        kept, key = _kept(), " ".join((*version(job), *version(other)))
        ledgers = list(compare_ledgers(job.ledger(), other.ledger()))
        alike = sum(each.same for each in ledgers)
        says = f"{alike:,} of {len(ledgers):,} tensors have the same bytes."
        if alike == len(ledgers):
            st.success(says, icon=":material/check:")
            return
        st.markdown(says)
        if key not in kept and st.button(
            "Measure distances",
            key="jobs_measure",
            icon=":material/straighten:",
            help="Reads both results once, block by block.",
        ):
            _measure(job, other, key, len(ledgers))
            st.rerun()
    _show_rows(tensor_rows(kept.get(key, ledgers), "norm" if key in kept else "merged norm"), key in kept)


def _measure(job: Job, other: Job, key: str, tensors: int) -> None:
    """Read both results; what was found is kept for everybody who looks at the two."""
    bar, found = st.progress(0.0, "Reading both"), []
    for each in compare_merges(job.out, other.out):
        found.append(each)
        bar.progress(min(1.0, len(found) / max(1, tensors)), f"{len(found):,} of {tensors:,} tensors")
    bar.empty()
    kept = _kept()
    kept[key] = found
    while len(kept) > MOST_KEPT:
        kept.popitem(last=False)


@st.cache_resource
def _kept() -> OrderedDict[str, list[Any]]:
    """Comparisons made so far."""
    return OrderedDict()


def _show_rows(rows: list[Row], measured: bool) -> None:
    number = st.column_config.NumberColumn(format="%.4g")
    columns = list(rows[0]) if rows else []
    hidden = () if measured else ("distance",)
    st.dataframe(
        rows[:MOST_ROWS],
        hide_index=True,
        placeholder="–",
        key="jobs_compared",
        height="auto" if len(rows) <= 10 else 430,
        column_order=[name for name in columns if name not in hidden],
        column_config={
            "tensor": st.column_config.TextColumn(width="large"),
            "distance": st.column_config.NumberColumn(format="%.3g", help="Norm of the difference over the norm here."),
            **{name: number for name in columns if "norm" in name},
        },
        alt="Tensors of both results, the most different first",
    )
