"""What fine-tunes of one base share and where they clash: one pass over the weights, in words, tables and charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import streamlit as st

from merging import (
    Diagnosis,
    Table,
    contents,
    density_curve,
    diagnose,
    intruders,
    readable,
    recall_diagnosis,
    spectra,
    summary,
)
from ui import boxes, charts, diagnosing, remote
from ui.models import pick_one, pick_several
from ui.places import stamp, zoo_models

# Models of so many bytes together are diagnosed as soon as they are chosen, larger ones when asked.
AT_ONCE_BYTES = 300 << 20
# Tables of singular values that are remembered; each is some numbers for every matrix.
MOST_SPECTRA = 8
BY: Mapping[str, Literal["model", "layer", "role", "tensor"]] = {
    "model": "model",
    "layer": "layer",
    "role": "role",
    "tensor": "tensor",
}


def page() -> None:
    """The page."""
    boxes.heading("Diagnose", "What the models share and where they clash, before anything is merged.")
    bundled = list(zoo_models().values())
    left, right = st.columns([1, 2])
    with left:
        base = pick_one("Base model", "diagnose_base", next(iter(bundled), None))
    with right:
        models = pick_several("Fine-tuned models", "diagnose_models", tuple(bundled[1:5]))
    if not base or not models:
        boxes.empty("Choose a base model and at least one fine-tune of it.")
        return
    remote.begin(base, *models)
    with remote.answers_shown():
        found = _diagnosis(base, models)
    if found is None:
        return
    _facts(found)
    for sentence in summary(found):
        st.markdown(f"- {boxes.plain(sentence)}")
    names = ["Agreement", "Layers", "Conflict", "Density", "Spectra", "Table"]
    panels: tuple[Callable[[Diagnosis], None], ...] = (
        _agreement,
        _layers,
        _conflict,
        _density,
        partial(_spectral, base, models),
        _table,
    )
    for tab, panel in zip(st.tabs(names), panels, strict=True):
        with tab, boxes.problems_shown():
            panel(found)
    boxes.command("diagnose", *models, "--base", base, "--by", "layer")


def _diagnosis(base: str, models: tuple[str, ...]) -> Diagnosis | None:
    """The diagnosis: from a cache, at once for small models, else when asked for."""
    opened, first = [remote.opened(model) for model in models], remote.opened(base)
    known = recall_diagnosis(opened, first)
    if known is not None:
        return known
    sizes = {source: sum(each.nbytes for each in _tensors(source)) for source in (base, *models)}
    fetched = sum(nbytes for source, nbytes in sizes.items() if remote.is_remote(source))
    if fetched or sum(sizes.values()) > AT_ONCE_BYTES:
        says = f"One pass reads {readable(sum(sizes.values()))}"
        says += f", {readable(fetched)} of it from the Hub, of which nothing is kept on disk" if fetched else ""
        st.caption(f"{says}; the result is kept, so that it is read only once.")
        if not st.button("Diagnose", type="primary", key="diagnose_start"):
            return None
    bar = st.progress(0.0, "Reading")

    def watch(done: int, total: int) -> None:
        bar.progress(done / max(1, total), f"{readable(done)} of {readable(total)} read")

    found = diagnose(opened, first, watch=watch)
    bar.empty()
    return found


def _tensors(source: str) -> tuple[Any, ...]:
    return contents(remote.opened(source)).tensors


def _facts(found: Diagnosis) -> None:
    rows = []
    whole = found.table(by="model")
    for name in found.names:
        value = {row.quantity: row.value for row in whole.where(i=name, j=None)}
        rows.append(
            {
                "model": name,
                "norm": value["norm"],
                "over the base's": value.get("relative_norm"),
                "entries changed": value.get("changed"),
                "norm in the largest 20 %": value.get("kept_norm_20"),
                "outliers": value.get("outliers"),
                "not finite": int(value["non_finite"]),
            }
        )
    share = st.column_config.NumberColumn(format="percent")
    st.dataframe(
        rows,
        hide_index=True,
        column_config={
            "norm": st.column_config.NumberColumn("norm of the task vector", format="%.3f"),
            "over the base's": share,
            "entries changed": share,
            "norm in the largest 20 %": share,
            "outliers": st.column_config.NumberColumn(
                format="%.2e", help="Share of the entries beyond six root mean squares."
            ),
        },
    )


def _agreement(found: Diagnosis) -> None:
    part = st.segmented_control("Of", ["everything", *diagnosing.parts(found)], default="everything", key="agree_part")
    chosen = found if part in (None, "everything") else found.where(diagnosing.tensors_of(found, part))
    whole = chosen.table(by="model")
    left, right = st.columns(2)
    for column, quantity, title in (
        (left, "cosine", "cosine of task vectors"),
        (right, "sign_agreement", "agreement of signs"),
    ):
        rows = diagnosing.square(whole, quantity, chosen.names)
        chart = charts.heat(rows, "a", "b", "value", ("", "", title), domain=(-1.0, 1.0), diverging=True)
        column.altair_chart(chart.properties(title=title), alt=f"Heat map: {title}")
    st.caption("Orange: they work against each other; blue: they pull the same way; near 0: unrelated.")


def _layers(found: Diagnosis) -> None:
    choices = {
        "relative to the base": "relative_norm",
        "norm": "norm",
        "entries changed": "changed",
        "kurtosis": "kurtosis",
        "norm in the largest 20 %": "kept_norm_20",
    }
    chosen = st.segmented_control("Show", list(choices), default="relative to the base", key="layers_quantity")
    quantity = choices[chosen or "relative to the base"]
    rows = diagnosing.by_layer(found.table(by="layer").where(quantity=quantity), found.names)
    if not rows:
        boxes.empty("No tensor stands in a numbered layer.")
        return
    for stack in dict.fromkeys(row["stack"] for row in rows):
        within = [row for row in rows if row["stack"] == stack]
        chart = charts.lines(within, "layer", "value", "model", found.names, ("layer", chosen or ""), height=300)
        st.altair_chart(chart.properties(title=stack), alt=f"{chosen} of each model over the layers {stack}")


def _conflict(found: Diagnosis) -> None:
    if len(found.models) < 2:
        boxes.empty("One model has nothing to disagree with.")
        return
    choices = {"mass lost to opposite signs": "mass_conflict", "entries of opposite signs": "sign_conflict_share"}
    chosen = st.segmented_control("Show", list(choices), default="mass lost to opposite signs", key="conflict_quantity")
    quantity = choices[chosen or "mass lost to opposite signs"]
    rows = diagnosing.layer_by_part(found, quantity)
    highest = max((row["value"] for row in rows), default=0.0)
    titles = ("part", "layer", chosen or "")
    chart = charts.heat(rows, "part", "layer", "value", titles, domain=(0.0, max(0.5, highest)), side=26)
    st.altair_chart(chart, alt=f"Heat map of {chosen} by layer and part")
    expected = 1 - len(found.models) ** -0.5
    st.caption(f"Unrelated dense task vectors of {len(found.models)} models lose {expected:.2f} of their mass.")


def _density(found: Diagnosis) -> None:
    rows = diagnosing.curves([(name, *density_curve(found, i)) for i, name in enumerate(found.names)])
    chart = diagnosing.density_chart(rows, found.names)
    st.altair_chart(chart, alt="Share of the norm kept over the share of entries kept")
    st.caption("What trimming at a density keeps of each task vector. The higher the curve on the left, the cheaper.")


def _spectral(base: str, models: tuple[str, ...], found: Diagnosis) -> None:
    st.caption("Singular values of every matrix: minutes for large models, so only when asked. Kept while this runs.")
    largest = st.number_input("Only the largest matrices", 1, 10_000, 24, key="spectra_largest")
    asked = st.button("Compute spectra and intruders", key="spectra_start")
    kept, key = _kept_spectra(), (base, models, int(largest), tuple(map(stamp, (base, *models))))
    if not asked and key not in kept:
        return
    if key not in kept:
        kept[key] = _spectra(base, models, int(largest))
        for old in list(kept)[:-MOST_SPECTRA]:
            kept.pop(old, None)
    rows = [
        {"tensor": row.tensor, "layer": row.layer, "model": row.i, "quantity": row.quantity, "value": row.value}
        for row in kept[key]
        if row.quantity != "singular_value" and row.j is None
    ]
    st.dataframe(diagnosing.wide(rows), hide_index=True, height=420)
    ranks = [row for row in rows if row["quantity"] == "effective_rank" and row["layer"] is not None]
    if ranks:
        chart = diagnosing.rank_chart(ranks, found.names)
        st.altair_chart(chart, alt="Effective rank of every matrix over the layers")


@st.cache_resource
def _kept_spectra() -> dict[Any, Table]:
    """The spectra that this server worked out last."""
    return {}


def _spectra(base: str, models: tuple[str, ...], largest: int) -> Table:
    bar = st.progress(0.0, "Decomposing")

    def watch(done: int, total: int) -> None:
        bar.progress(min(1.0, done / max(1, total)), "Decomposing")

    opened, first = [remote.opened(model) for model in models], remote.opened(base)
    found = spectra(opened, first, largest=largest, watch=watch)
    found += intruders(opened, first, largest=largest, watch=watch)
    bar.empty()
    return found


def _table(found: Diagnosis) -> None:
    by = st.segmented_control("One row for each", list(BY), default="model", key="table_by")
    table = found.table(by=BY[by or "model"])
    quantities = sorted({row.quantity for row in table})
    chosen = st.multiselect("Quantities", quantities, key="table_quantities", placeholder="all")
    shown = table.where(quantity=chosen) if chosen else table
    st.dataframe(shown.records()[: diagnosing.MOST_ROWS], hide_index=True, height=420)
    if len(shown) > diagnosing.MOST_ROWS:
        st.caption(f"The first {diagnosing.MOST_ROWS:,} of {len(shown):,} rows; the file has all.")
    st.download_button("Download CSV", shown.csv, "diagnosis.csv", "text/csv", key="table_csv")


page()
