"""What every tensor got, from the ledger of a merge: by which rule, from which models, how much of each."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from typing import Any

import streamlit as st

from merging import Job, MergingError, read_recipe
from ui import boxes, charts
from ui.models import labels

Row = dict[str, Any]

ALL = "all"
MERGED = "merge"
# Rows that a browser shows without effort; the filter finds the others.
MOST_ROWS = 5_000
FIXED = ("tensor", "layer", "role", "rule", "method", "remarks", "merged norm", "not finite")


def model_names(recipe: str) -> list[str]:
    """Short names of the models, in the order in which a ledger numbers them; empty where none can be read."""
    try:
        wish = read_recipe(recipe + "\n", lenient=True)
    except MergingError:
        return []
    tokenizer = wish.tokenizer_source
    named = [*wish.sources(), *([tokenizer] if tokenizer and tokenizer != "base" else [])]
    sources = tuple(dict.fromkeys(named))
    called = labels(sources)
    return [called[source] for source in sources]


def flat(ledger: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Row]:
    """Rows of a ledger as rows of a table: for each model the norm of its task vector and its share of the result."""
    return [_flat(row, names) for row in ledger]


def _flat(row: Mapping[str, Any], names: Sequence[str]) -> Row:
    operands = row.get("operands") or []
    cells: Row = {
        "tensor": str(row["tensor"]),
        "layer": row.get("layer"),
        "role": row.get("role") or "–",
        "rule": row.get("rule") or "–",
        "method": row.get("method") or "–",
        "remarks": "; ".join(_remarks(row, names)),
        "merged norm": _finite(row.get("merged_norm")),
        "not finite": int(row.get("non_finite") or 0),
    }
    shares = [_finite(operand.get("share")) for operand in operands]
    whole = sum(abs(share) for share in shares if share is not None)
    for operand, share in zip(operands, shares, strict=True):
        if "norm" in operand:
            name = _name(operand.get("model"), names)
            cells[f"norm · {name}"] = _finite(operand["norm"])
            cells[f"share · {name}"] = share / whole if share is not None and whole else None
    shape = " × ".join(map(str, row.get("shape") or [])) or "scalar"
    settings = ", ".join(f"{name} {_spelled(value)}" for name, value in (row.get("parameters") or {}).items())
    return cells | {"shape": shape, "dtype": row.get("dtype"), "parameters": settings, "seconds": row.get("seconds")}


def _name(model: object, names: Sequence[str]) -> str:
    return names[model] if isinstance(model, int) and 0 <= model < len(names) else f"model {model}"


def _remarks(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """What a person should look at: entries that are not finite, a merge that is one of its inputs, an exception."""
    found = [f"{row['non_finite']:,} entries are not finite"] if row.get("non_finite") else []
    operands = row.get("operands") or []
    for operand in operands:
        name = _name(operand.get("model"), names)
        if operand.get("non_finite"):
            found.append(f"{operand['non_finite']:,} entries of {name} are not finite")
        if operand.get("same"):
            found.append(f"same as in {name}")
    return [*found, *([str(row["note"])] if row.get("note") else [])]


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def _spelled(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_spelled, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def in_layers(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Row], list[str]]:
    """Norms of the merge and of every task vector over the layers, and the layers in their order.

    The norm of a layer is the root of the sum of the squares of its tensors' norms.
    """
    squares: dict[tuple[str, str], float] = {}
    stacks = {_stack(row) for row in rows if row["layer"] is not None}
    order: dict[str, tuple[str, int]] = {}
    for row in rows:
        if row["layer"] is None or row["rule"] != MERGED:
            continue
        stack = _stack(row)
        place = f"{stack} {row['layer']}" if len(stacks) > 1 else str(row["layer"])
        order[place] = (stack, int(row["layer"]))
        norms = {"merge": row["merged norm"]}
        norms |= {name.removeprefix("norm · "): row[name] for name in row if name.startswith("norm · ")}
        for name, norm in norms.items():
            squares[place, name] = squares.get((place, name), 0.0) + (norm or 0.0) ** 2
    found = [{"place": place, "name": name, "value": sqrt(square)} for (place, name), square in squares.items()]
    return found, sorted(order, key=lambda place: order[place])


def _stack(row: Mapping[str, Any]) -> str:
    """The stack of layers that a tensor belongs to, by what stands before the layer's number in its name."""
    found = re.match(rf"(.*?)\.?(?<!\d){row['layer']}(?!\d)", row["tensor"])
    return found[1] if found else ""


def layers_figure(rows: Sequence[Row], order: Sequence[str]) -> Row:
    """Curves over the layers, the merge in its own colour, as Vega-Lite."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    scale = charts.colours(names).to_dict()
    axis = {"labelAngle": 0, "labelOverlap": True, "labelLimit": 120}
    title = "norm"
    return {
        "data": {"values": list(rows)},
        "height": 300,
        "mark": {"type": "line", "point": {"size": 30}, "strokeWidth": 2},
        "encoding": {
            "x": {"field": "place", "type": "ordinal", "sort": list(order), "title": "layer", "axis": axis},
            "y": {"field": "value", "type": "quantitative", "title": title},
            "color": {
                "field": "name",
                "type": "nominal",
                "title": None,
                "scale": {"domain": scale["domain"], "range": scale["range"]},
                "legend": {"orient": "top", "columns": 4, "labelLimit": 180},
            },
            "tooltip": [
                {"field": "name", "type": "nominal", "title": "model"},
                {"field": "place", "type": "nominal", "title": "layer"},
                {"field": "value", "type": "quantitative", "format": ".4g", "title": "norm"},
            ],
        },
    }


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, with all columns that any of them has."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def version(job: Job) -> tuple[str, str]:
    """What is another value when the job's ledger is another one."""
    try:
        return str(job.folder), str((job.out / "merging-ledger.jsonl").stat().st_mtime_ns)
    except OSError:
        return str(job.folder), f"{job.state} {job.progress.tensors_done}"


@st.cache_data(max_entries=8, show_spinner="Reading the ledger", hash_funcs={Job: version})
def _rows(job: Job) -> list[Row]:
    return flat(job.ledger(), model_names(job.recipe))


def show_tensors(job: Job) -> None:
    """Chart, filter, table and download."""
    with boxes.problems_shown():
        rows = _rows(job)
    if not rows:
        boxes.empty("No tensor is finished yet." if job.state != "done" else "The ledger holds no tensor.")
        return
    found, order = in_layers(rows)
    if len(order) > 1:
        st.vega_lite_chart(
            layers_figure(found, order), key="jobs_layers", alt="Curves over the layers: norm of what was merged in"
        )
    _table(job, _kept(rows))


def _kept(rows: list[Row]) -> list[Row]:
    """The rows that are asked for."""
    first, second, third, fourth = st.columns([3, 1, 1.4, 1], vertical_alignment="bottom")
    wanted = first.text_input("Name contains", key="jobs_tensor", placeholder="for example layers.3 or mlp").lower()
    rule = second.selectbox("Rule", [ALL, *sorted({row["rule"] for row in rows})], key="jobs_rule")
    role = third.selectbox("Role", [ALL, *sorted({row["role"] for row in rows})], key="jobs_role")
    remarked = fourth.checkbox("With remarks", key="jobs_remarked", help="Same as an input, not finite, exceptions.")
    return [
        row
        for row in rows
        if wanted in row["tensor"].lower()
        and rule in (ALL, row["rule"])
        and role in (ALL, row["role"])
        and (row["remarks"] or not remarked)
    ]


def _table(job: Job, rows: list[Row]) -> None:
    if not rows:
        boxes.empty("No tensor matches.", ":material/filter_alt_off:")
        return
    more = f"; {MOST_ROWS:,} are listed, all are in the CSV" if len(rows) > MOST_ROWS else ""
    st.caption(f"{len(rows):,} tensor{'s' if len(rows) != 1 else ''}{more}")
    number, share = st.column_config.NumberColumn(format="%.4g"), st.column_config.NumberColumn(format="percent")
    names = dict.fromkeys(key for row in rows[:MOST_ROWS] for key in row)
    config: dict[str, Any] = {name: number for name in names if name.startswith("norm · ")}
    config |= {name: share for name in names if name.startswith("share · ")}
    st.dataframe(
        rows[:MOST_ROWS],
        hide_index=True,
        placeholder="–",
        key="jobs_tensors",
        height="auto" if len(rows) <= 10 else 430,
        column_order=[*FIXED, *(name for name in names if name not in FIXED)],
        column_config={"tensor": st.column_config.TextColumn(width="large", pinned=True), "merged norm": number}
        | config,
        alt="What every tensor got",
    )
    left, right = st.columns([5, 1])
    left.caption(
        "A norm is that of a model's task vector, or where there is no base of its distance from the first model; the "
        "merged norm is that of what was merged in. Shares are those of the models in what was merged in."
    )
    right.download_button(
        "CSV",
        lambda: csv_text(rows),
        f"{job.id}.csv",
        "text/csv",
        key="jobs_csv",
        icon=":material/download:",
        on_click="ignore",
        width="stretch",
    )
