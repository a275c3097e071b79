"""Would it work, and what would it cost: answered from headers after every change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st

from merging import Checkpoint, MergingError, Problems, Recipe, check, explain, read_recipe, readable
from ui import boxes, remote
from ui.compose.pace import Pace, about
from ui.places import path_refusal, refusal, short, stamp, zoo_models
from ui.questions import StillAsking

GiB = 1 << 30
# Rows of the table of tensors; a plan of a large mixture of experts has many groups.
MOST_ROWS = 1_000
MOST_PROBLEMS = 20


class Way(NamedTuple):
    """How bytes of models on the Hub are had: where they stay, in short and as a sentence, and how they are checked."""

    short: str
    says: str


WAYS = {
    "snapshot": Way(
        "kept in the cache",
        "Whole files, kept in the Hub's cache for the next time; each fresh one is compared with its SHA-256.",
    ),
    "shards": Way(
        "a few files at a time",
        "Whole files one after another, each removed after its last tensor; each is compared with its SHA-256.",
    ),
    "ranges": Way(
        "nothing on disk",
        "Only the bytes that are read, with nothing on disk; sizes are checked, but no SHA-256 can be.",
    ),
}


@dataclass(frozen=True)
class Wishes:
    """How the merge is to be carried out; what `merging run` takes beside the recipe."""

    out: str = ""
    overwrite: bool = False
    memory_gib: float = 4.0
    shard_gb: float = 5.0
    workers: int | None = None
    fetch: str = "snapshot"

    def options(self) -> list[str]:
        """As options of the command line; what is at its default is left out."""
        words = ["--memory", f"{self.memory_gib:g}GiB"] if self.memory_gib != Wishes.memory_gib else []
        words += ["--shard-size", f"{self.shard_gb:g}GB"] if self.shard_gb != Wishes.shard_gb else []
        words += ["--workers", str(self.workers)] if self.workers else []
        words += ["--fetch", self.fetch] if self.fetch != Wishes.fetch else []
        return words + (["--overwrite"] if self.overwrite else [])


@dataclass(frozen=True)
class Finding:
    """What the preflight found; `plan` is the explanation of the plan as data, None where there is none.

    `fetched_bytes` are those from the Hub, None where no model is there; `asking` names models whose headers are still
    to come. `lacks_room` says that nothing is wrong but the room on the disk, which weights that go to the Hub while
    they are made do not need.
    """

    problems: tuple[MergingError, ...]
    warnings: tuple[str, ...] = ()
    disk_bytes: int = 0
    free_bytes: int | None = None
    plan: dict[str, Any] | None = None
    fetched_bytes: int | None = None
    asking: tuple[str, ...] = ()
    lacks_room: bool = False

    @property
    def good(self) -> bool:
        """Whether the merge can start."""
        return not self.problems and self.plan is not None


def outside(sources: Iterable[str]) -> list[MergingError]:
    """Models of a recipe that may not be opened from here; judged before anything is opened."""
    found = {source: refusal(source) for source in sources}
    return [MergingError(says, where=source) for source, says in found.items() if says]


def examine(text: str, recipe: Recipe, wishes: Wishes) -> Finding:
    """Everything that is wrong with a recipe that can be read, and its plan where nothing is. Reads headers only."""
    sources = sources_of(recipe)
    found = outside(sources)
    target = path_refusal(wishes.out) if wishes.out else None
    found += [MergingError(target, where="the output folder")] if target else []
    if found:
        return Finding(tuple(found))
    remote.begin(*sources)
    distant: dict[str, Checkpoint] = {}
    asking: list[str] = []
    for source in filter(remote.is_remote, sources):
        try:
            distant[source] = remote.opened(source)
        except StillAsking:
            asking.append(source)
        except MergingError as error:
            found += error.problems if isinstance(error, Problems) else [error]
    if found or asking:
        return Finding(tuple(found), asking=tuple(asking))
    return _examined(text, wishes, tuple(map(stamp, sources)), _state(wishes.out), distant)


def sources_of(recipe: Recipe) -> tuple[str, ...]:
    """Every model that a recipe would open, the lender of the tokenizer among them."""
    lender = recipe.tokenizer_source
    named = (*(source for _, source in recipe.mentions()), *([lender] if lender and lender != "base" else []))
    return tuple(dict.fromkeys(named))


def _state(out: str) -> tuple[int, ...]:
    """Changes when something is put into the folder or taken out of it."""
    try:
        return (Path(out).stat().st_mtime_ns, len(list(Path(out).iterdir())))
    except OSError:
        return ()


# The disk fills up by itself, so an answer is not kept for long.
@st.cache_data(max_entries=64, ttl=60, show_spinner="Checking")
def _examined(
    text: str,
    wishes: Wishes,
    stamps: tuple[Any, ...],  # noqa: ARG001
    state: tuple[int, ...],  # noqa: ARG001
    _distant: Mapping[str, Checkpoint],
) -> Finding:
    ask = partial(
        check,
        read_recipe(text if "\n" in text else f"{text}\n"),
        out=wishes.out or None,
        overwrite=wishes.overwrite,
        memory=round(wishes.memory_gib * GiB),
        shard_bytes=round(wishes.shard_gb * 1e9),
        checkpoints={source: remote.as_fetched(held, wishes.fetch) for source, held in _distant.items()},
    )
    report = ask()
    lacks_room = len(report.problems) == 1 and ask(keeps_weights=False).good
    plan = explain(report.plan, workers=wishes.workers).data() if report.plan else None
    fetched = report.fetched_bytes if _distant else None
    sizes = (report.disk_bytes, report.free_bytes)
    return Finding(report.problems, report.warnings, *sizes, plan, fetched, lacks_room=lacks_room)


def show_verdict(finding: Finding, pace: Pace, fetch: str = Wishes.fetch) -> None:
    """Whether the merge can start, and what it costs; problems and warnings."""
    if finding.problems:
        count = len(finding.problems)
        st.markdown(f"**{count} {'problem' if count == 1 else 'problems'}**")
        for each in finding.problems[:MOST_PROBLEMS]:
            boxes.problem(each)
        if count > MOST_PROBLEMS:
            st.caption(f"and {count - MOST_PROBLEMS} more")
    for warning in finding.warnings[:MOST_PROBLEMS]:
        st.warning(boxes.plain(warning), icon=":material/warning:")
    if finding.plan is not None:
        _costs(finding, finding.plan, pace, fetch)


def _costs(finding: Finding, plan: Mapping[str, Any], pace: Pace, fetch: str) -> None:
    moved = plan["read_bytes"] + plan["written_bytes"] + 2 * plan["spooled_bytes"]
    free = "" if finding.free_bytes is None else f", {readable(finding.free_bytes)} free"
    passes = "one pass" if len(plan["passes"]) == 1 else f"{len(plan['passes'])} passes"
    timed = (pace.short, pace.says)
    if finding.fetched_bytes:
        timed = ("and the download", f"{pace.says} How long the Hub takes is not known before.")
    cells: tuple[tuple[str, str, str, str], ...] = (
        ("Time", about(moved / pace.bytes_per_second), *timed),
        ("Reads", readable(plan["read_bytes"]), passes, "From all models, over all passes."),
        (
            "Disk",
            readable(finding.disk_bytes),
            f"needed{free}",
            "For the output and for what waits there until the end.",
        ),
        ("Memory", readable(plan["memory_bytes"]), f"{plan['workers']} workers", "The buffers of the engine."),
    )
    if finding.fetched_bytes is not None:
        way = WAYS[fetch]
        cells = (
            *cells[:2],
            ("Fetched", readable(finding.fetched_bytes), way.short, f"From the Hub. {way.says}"),
            *cells[2:],
        )
    with st.container(border=True):
        for column, (label, value, beside, tells) in zip(st.columns(len(cells)), cells, strict=True):
            column.metric(label, value, help=tells)
            column.caption(beside)
        if finding.good:
            tensors = sum(row["tensors"] for row in plan["rows"])
            st.markdown(f":green[:material/check_circle:] Ready: {tensors:,} tensors in {len(plan['rows'])} groups.")


def show_plan(finding: Finding) -> None:
    """What every tensor gets, and in which passes."""
    if finding.plan is not None:
        st.subheader("Plan", anchor=False)
        st.caption(boxes.plain(finding.plan["summary"]))
        _passes(finding.plan)
        _tensors(finding.plan)


def _passes(plan: Mapping[str, Any]) -> None:
    if len(plan["passes"]) < 2:
        return
    steps = [
        f"{number}. {boxes.plain(each['what'])}: {each['tensors']:,} tensors, reads {readable(each['read_bytes'])}, "
        f"writes {readable(each['written_bytes'])}"
        for number, each in enumerate(plan["passes"], start=1)
    ]
    st.markdown("\n".join(steps))


def _tensors(plan: Mapping[str, Any]) -> None:
    shown_rows = rows(plan)[:MOST_ROWS]
    columns = (
        [name for name in shown_rows[0] if any(row[name] not in ("", None) for row in shown_rows)] if shown_rows else []
    )
    st.dataframe(
        shown_rows,
        hide_index=True,
        key="compose_rows",
        column_order=columns,
        height=min(460, 38 + 35 * len(shown_rows)),
        alt="Groups of tensors and what each of them gets",
        column_config={
            "bytes": st.column_config.NumberColumn(format="bytes"),
            "tensors": st.column_config.TextColumn(width="large"),
        },
    )


def rows(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What every group of tensors gets, a line each."""
    names = {path: name for name, path in zoo_models().items()}
    return [
        {
            "tensors": row["name"],
            "count": row["tensors"],
            "layers": "" if row["layers"] is None else " – ".join(str(layer) for layer in dict.fromkeys(row["layers"])),
            "role": row["role"],
            "gets": row["treatment"],
            "by": row["execution"],
            "of": ", ".join(names.get(source, short(source)) for source in row["inputs"]),
            "parameters": ", ".join(f"{name} {row['parameters'][name]}" for name in row["told"]),
            "shape": " × ".join(map(str, row["shape"])),
            "dtype": row["dtype"],
            "bytes": row["nbytes"],
            "note": row["note"],
        }
        for row in plan["rows"]
    ]
