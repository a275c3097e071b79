"""Look into a checkpoint: its tensors, the numbers in one of them, what sets two checkpoints apart."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import altair as alt
import streamlit as st

from merging import contents, contrast, readable, tensor_statistics
from ui import boxes, charts, remote
from ui.models import pick_one, shown
from ui.places import Stamp, stamp, zoo_models

# Rows of the list that a browser shows without effort; the filter finds the others.
MOST_ROWS = 5_000
ALL = "all"


def page() -> None:
    """The page."""
    boxes.heading("Browse", "The tensors of a checkpoint from its headers; entries are read only for what you select.")
    left, right = st.columns(2)
    with left:
        source = pick_one("Checkpoint", "browse_source", next(iter(zoo_models().values()), None))
    with right:
        other = pick_one("Compare with", "browse_other", optional=True)
    if source is None:
        boxes.empty("Choose a checkpoint to see its tensors.")
        return
    remote.begin(source, *([other] if other else []))
    with remote.answers_shown():
        held = _contents(source)
        theirs = _contents(other) if other else None
    _facts(held)
    rows = _rows(held, theirs)
    chosen = _table(rows)
    if chosen:
        with boxes.problems_shown():
            _tensor(source, other, chosen)
    else:
        st.caption("Select a row to see the numbers in that tensor.")
    boxes.command("inspect", source)


def _contents(source: str) -> dict[str, Any]:
    return _listed(source, stamp(source))


@st.cache_data(max_entries=32, show_spinner="Reading headers")
def _listed(source: str, stamped: Stamp) -> dict[str, Any]:  # noqa: ARG001
    held = contents(remote.opened(source))
    return {**asdict(held), "tensors": [each._asdict() for each in held.tensors]}


def _facts(held: dict[str, Any]) -> None:
    tensors = held["tensors"]
    dtypes = sorted({each["dtype"] for each in tensors})
    cells = (
        ("Family", held["family"]),
        ("Layers", " + ".join(map(str, held["layers"].values())) or "none"),
        ("Tensors", f"{len(tensors):,}"),
        ("Entries", f"{sum(each['entries'] for each in tensors):,}"),
        ("Size", readable(sum(each["nbytes"] for each in tensors))),
        ("Stored as", ", ".join(dtypes)),
    )
    boxes.facts(cells)
    if held["sidecars"]:
        st.caption("Travels with the weights: " + ", ".join(map(boxes.plain, held["sidecars"])))


def _rows(held: dict[str, Any], theirs: dict[str, Any] | None) -> list[dict[str, Any]]:
    other = {each["name"]: each for each in theirs["tensors"]} if theirs else {}
    rows = [_row(each, other.pop(each["name"], None), theirs is not None) for each in held["tensors"]]
    return rows + [{**_row(each, each, True), "compared": "only in the other"} for each in other.values()]


def _row(each: dict[str, Any], twin: dict[str, Any] | None, compared: bool) -> dict[str, Any]:
    row = {
        "tensor": each["name"],
        "layer": each["layer"],
        "role": each["role"] or "–",
        "shape": " × ".join(map(str, each["shape"])) or "scalar",
        "dtype": each["dtype"],
        "entries": each["entries"],
        "bytes": each["nbytes"],
    }
    if compared:
        row["compared"] = _verdict(each, twin)
    return row


def _verdict(each: dict[str, Any], twin: dict[str, Any] | None) -> str:
    if twin is None:
        return "only here"
    if tuple(twin["shape"]) != tuple(each["shape"]):
        return f"other shape: {' × '.join(map(str, twin['shape']))}"
    return "in both" if twin["dtype"] == each["dtype"] else f"other dtype: {twin['dtype']}"


def _table(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The list, narrowed by what is typed; the row selected."""
    first, second, third = st.columns([3, 1, 1])
    wanted = first.text_input("Name contains", key="browse_name", placeholder="for example layer.3 or attention")
    layers = [ALL, *sorted({row["layer"] for row in rows if row["layer"] is not None})]
    layer = second.selectbox("Layer", layers, key="browse_layer")
    role = third.selectbox("Role", [ALL, *sorted({row["role"] for row in rows})], key="browse_role")
    kept = [
        row
        for row in rows
        if wanted.lower() in row["tensor"].lower() and layer in (ALL, row["layer"]) and role in (ALL, row["role"])
    ]
    if not kept:
        boxes.empty("No tensor matches.", ":material/filter_alt_off:")
        return None
    event = st.dataframe(
        kept[:MOST_ROWS],
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key="browse_rows",
        height=min(430, 38 + 35 * len(kept)),
        column_config={
            "tensor": st.column_config.TextColumn(width="large"),
            "entries": st.column_config.NumberColumn(format="localized"),
            "bytes": st.column_config.NumberColumn(format="bytes"),
        },
    )
    share = f"{len(kept):,} of {len(rows):,} tensors, {sum(row['entries'] for row in kept):,} entries"
    st.caption(share if len(kept) <= MOST_ROWS else f"{share}; the first {MOST_ROWS:,} are listed")
    selected = event["selection"]["rows"]
    return kept[selected[0]] if selected and selected[0] < len(kept) else None


def _tensor(source: str, other: str | None, row: dict[str, Any]) -> None:
    name = row["tensor"]
    st.subheader(boxes.plain(name), anchor=False)
    here = [each for each in (source, other) if each and _holds(each, name)]
    for column, each in zip(st.columns(max(1, len(here))), here, strict=True):
        with column:
            if other:
                st.caption(boxes.plain(shown(each)))
            _numbers(_statistics(each, stamp(each), name))
    if other and len(here) > 1 and row["compared"] != "only here" and "shape" not in row["compared"]:
        _contrast(_compared(source, other, (stamp(source), stamp(other)), name))


def _holds(source: str, name: str) -> bool:
    return any(each["name"] == name for each in _contents(source)["tensors"])


@st.cache_data(max_entries=256, show_spinner="Reading the tensor")
def _statistics(source: str, stamped: Stamp, name: str) -> dict[str, Any]:  # noqa: ARG001
    return asdict(tensor_statistics(remote.opened(source), name))


@st.cache_data(max_entries=256, show_spinner="Comparing")
def _compared(source: str, other: str, stamped: tuple[Stamp, Stamp], name: str) -> dict[str, Any]:  # noqa: ARG001
    return asdict(contrast(remote.opened(source), remote.opened(other), name))


def _numbers(found: dict[str, Any]) -> None:
    cells = (
        ("Mean", f"{found['mean']:.3g}"),
        ("Deviation", f"{found['deviation']:.3g}"),
        ("Smallest", f"{found['minimum']:.3g}"),
        ("Largest", f"{found['maximum']:.3g}"),
        ("Norm", f"{found['norm']:.4g}"),
        ("Zeros", f"{found['zeros'] / max(1, found['entries']):.1%}"),
    )
    boxes.facts(cells)
    if found["non_finite"]:
        st.warning(f"{found['non_finite']:,} entries are not finite.", icon=":material/warning:")
    if found["counts"]:
        st.altair_chart(_histogram(found), alt="Histogram of the entries")


def _histogram(found: dict[str, Any]) -> Any:
    edges, counts = found["edges"], found["counts"]
    rows = [
        {"from": low, "to": high, "entries": count}
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    return (
        alt.Chart(charts.data(rows), height=200)
        .mark_bar(color=charts.CATEGORIES[0])
        .encode(
            x=alt.X("from:Q", bin="binned", title="value of an entry"),
            x2="to:Q",
            y=alt.Y("entries:Q", title="entries", scale=alt.Scale(type="symlog"), axis=alt.Axis(format="~s")),
            tooltip=[alt.Tooltip("from:Q", format=".4g"), alt.Tooltip("to:Q", format=".4g"), "entries:Q"],
        )
    )


def _contrast(found: dict[str, Any]) -> None:
    if found["same"]:
        st.success("Both hold the same numbers.", icon=":material/check:")
        return
    cells = (
        ("Distance", f"{found['norm']:.4g}"),
        ("Over the first's norm", f"{found['relative']:.2%}"),
        ("Cosine", f"{found['cosine']:.6f}"),
        ("Largest change", f"{found['largest']:.3g}"),
        ("Entries changed", f"{found['changed']:,}"),
    )
    boxes.facts(cells)


page()
