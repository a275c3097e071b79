"""A diagnosis as tables on the screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from merging.cli.text import printable

if TYPE_CHECKING:
    from rich.table import Table as Drawn

    from merging.analysis.diagnosis import Diagnosis
    from merging.analysis.table import Table

# Columns where the output is no terminal that would say how many it has.
WIDE = 140
# Places shown of those where signs disagree most.
MOST = 5
# Columns of the table of models: quantity, heading, and how its value is written.
COLUMNS = (
    ("norm", "norm", "{:.4g}"),
    ("relative_norm", "of base", "{:.2%}"),
    ("changed", "changed", "{:.1%}"),
    ("kept_norm_20", "norm in largest 20 %", "{:.1%}"),
    ("largest", "largest", "{:.3g}"),
    ("kurtosis", "kurtosis", "{:.1f}"),
    ("outliers", "beyond 6 rms", "{:.2g}"),
    ("non_finite", "not finite", "{:.0f}"),
)
# Columns of a table of places that say how several models get on.
AMONG = (
    ("mass_conflict", "lost to signs", "{:.1%}"),
    ("sign_conflict_share", "entries in conflict", "{:.1%}"),
    ("interference", "interference", "{:.2f}"),
)
SPECTRAL = ("effective_rank", "stable_rank", "rank_90", "rank_99")


def headline(found: Diagnosis, cached: bool, seconds: float) -> str:
    """What was compared, and what it took."""
    entries = sum(tensor.entries for tensor in found.tensors)
    count = len(found.models)
    how = "measured before, shown from the cache" if cached else f"{seconds:.1f} s"
    return (
        f"{count} {'model' if count == 1 else 'models'} against {found.base}: "
        f"{len(found.tensors)} tensors, {entries:,} entries each; {how}"
    )


def tables(found: Diagnosis, by: str | None, spectral: Table | None) -> Iterator[Drawn]:
    """Models, cosines, places of most conflict or all that `by` names, and spectra where there are any."""
    whole = found.table("model")
    yield _models(found, whole)
    if len(found.models) > 1:
        yield _cosines(found, whole)
    if by in ("tensor", "layer", "role"):
        yield _places(f"by {by}", found, found.table(by), None)  # type: ignore[arg-type]
    elif len(found.models) > 1:
        yield _places("where signs disagree most", found, found.table(("layer", "role")), MOST)
    if spectral is not None:
        yield _spectra(found, spectral)


def _drawn(title: str, *headings: str) -> Drawn:
    from rich.table import Table as Drawn

    table = Drawn(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("model", "where") else "right")
    return table


def _models(found: Diagnosis, whole: Table) -> Drawn:
    table = _drawn("task vectors", "model", *(heading for _, heading, _ in COLUMNS))
    for name in found.names:
        values = {row.quantity: row.value for row in whole.where(i=name, j=None)}
        table.add_row(_text(name), *(_cell(values.get(quantity), form) for quantity, _, form in COLUMNS))
    return table


def _cosines(found: Diagnosis, whole: Table) -> Drawn:
    names = found.names
    cosines = {(row.i, row.j): row.value for row in whole.where(quantity="cosine")}
    table = _drawn("cosines of task vectors", "model", *map(str, range(1, len(names) + 1)))
    for i, name in enumerate(names):
        values = [
            "" if i == j else _cell(cosines.get((names[min(i, j)], names[max(i, j)])), "{:.3f}")
            for j in range(len(names))
        ]
        table.add_row(_text(f"{i + 1} {name}"), *values)
    return table


def _places(title: str, found: Diagnosis, table: Table, most: int | None) -> Drawn:
    """One row a place: how far the models moved there, what signs cost, how the task vectors add up."""
    places: dict[Any, dict[Any, float]] = {}
    for row in table:
        places.setdefault(row[:4], {})[row.quantity, row.i, row.j] = row.value
    chosen = list(places.items())
    if most is not None:
        # By the magnitude that is lost: a conflict of few small changes matters little.
        chosen = sorted(chosen, key=lambda item: -_lost(item[1], found.names))[:most]
    columns = AMONG if len(found.names) > 1 else ()
    drawn = _drawn(title, "where", *(f"{name}: of base" for name in found.names), *(column[1] for column in columns))
    for place, values in chosen:
        moved = [_cell(values.get(("relative_norm", name, None)), "{:.2%}") for name in found.names]
        among = [_cell(values.get((quantity, None, None)), form) for quantity, _, form in columns]
        drawn.add_row(_text(_place(place)), *moved, *among)
    return drawn


def _lost(values: dict[Any, float], names: Sequence[str]) -> float:
    moved = sum(values.get(("norm", name, None), 0.0) ** 2 for name in names)
    return values.get(("mass_conflict", None, None), 0.0) * moved


def _place(place: tuple[str | None, str | None, int | None, str | None]) -> str:
    tensor, stack, layer, role = place
    if tensor is not None:
        return tensor
    where = [] if layer is None else [f"{stack or ''} layer {layer}".strip()]
    return ", ".join([*where, *([role] if role else [])]) or "outside the layers"


def _spectra(found: Diagnosis, spectral: Table) -> Drawn:
    means = {(row.quantity, row.i): row.value for row in spectral.where(quantity=list(SPECTRAL)).by(how="weighted")}
    headings = [quantity.replace("_", " ") for quantity in SPECTRAL]
    table = _drawn("spectra of matrices, means weighted by entries", "model", *headings)
    for name in found.names:
        table.add_row(_text(name), *(_cell(means.get((quantity, name)), "{:.1f}") for quantity in SPECTRAL))
    return table


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None or value != value else form.format(value)


def _text(text: str) -> Any:
    from rich.text import Text

    return Text(printable(text))
