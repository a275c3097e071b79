"""A tidy table of measurements: one number a row, said of a tensor, a layer, a role or a whole model."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from math import fsum
from pathlib import Path
from typing import Any, Literal, NamedTuple

from merging.errors import MergingError, MissingExtraError

How = Literal["sum", "mean", "weighted"]


class Measurement(NamedTuple):
    """One number and what it is said of.

    `tensor`, `stack`, `layer` and `role` are None where the number covers all of them, and `layer` also for a tensor
    that stands in no layer. `i` and `j` name models: one for a number of one model, both for a pair, None for a number
    of the base model or of all models together. `entries` is how many entries of a tensor the number covers.
    """

    tensor: str | None
    stack: str | None
    layer: int | None
    role: str | None
    quantity: str
    i: str | None
    j: str | None
    value: float
    entries: int = 1


COLUMNS = Measurement._fields
# A layer counts within its stack, so what is kept apart by layers is kept apart by stacks.
_PLACE: dict[str, tuple[str, ...]] = {"layer": ("stack", "layer")}


@dataclass(frozen=True)
class Table:
    """Measurements in order; every operation gives a new table."""

    rows: tuple[Measurement, ...] = ()

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __add__(self, other: Table) -> Table:
        return Table((*self.rows, *other.rows))

    def where(self, **equal: Any) -> Table:
        """The rows whose columns equal what is given; of a list, tuple, set or range, any member.

        >>> both = Table(tuple(Measurement("w", "", i, "", "norm", "a", None, 2.0 + i) for i in (0, 1)))
        >>> [row.value for row in both.where(quantity="norm", layer=range(1, 9))]
        [3.0]

        Raises MergingError for a column that there is none of.
        """
        _require(equal)
        wanted = {name: value if _is_several(value) else (value,) for name, value in equal.items()}
        return Table(tuple(row for row in self.rows if all(getattr(row, name) in wanted[name] for name in wanted)))

    def by(self, *columns: str, how: How = "sum") -> Table:
        """One row for all that agree in `columns`, quantity and models: their sum, mean, or mean weighted by entries.

        Only what adds up should be added: norms and cosines of several tensors come from `Diagnosis.table(by=...)`,
        which adds the sums they are made of. Columns that are not kept are None in the result; without any, a row
        covers whole models. Raises MergingError for a column that there is none of.
        """
        _require(columns)
        kept = {*(name for column in columns for name in _PLACE.get(column, (column,))), "quantity", "i", "j"}
        dropped: dict[str, Any] = dict.fromkeys(name for name in COLUMNS[:7] if name not in kept)
        groups: dict[Measurement, list[Measurement]] = defaultdict(list)
        for row in self.rows:
            groups[row._replace(**dropped, value=0.0, entries=0)].append(row)
        return Table(
            tuple(
                key._replace(value=_COMBINE[how](rows), entries=sum(row.entries for row in rows))
                for key, rows in groups.items()
            )
        )

    def records(self) -> list[dict[str, Any]]:
        """Every row as a dictionary by column, as JSON and data frames want it."""
        return [row._asdict() for row in self.rows]

    def csv(self, path: Path | str | None = None) -> str:
        """The table as comma-separated text with a header, also written to `path`; what is None is empty."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(COLUMNS)
        lines.writerows(self.rows)
        if path is not None:
            Path(path).write_text(text.getvalue(), encoding="utf-8")
        return text.getvalue()

    def parquet(self, path: Path | str) -> None:
        """Write the table as a Parquet file. Raises MissingExtraError without pyarrow, which comes with Streamlit."""
        try:
            arrow, writer = import_module("pyarrow"), import_module("pyarrow.parquet")
        except ImportError:
            raise MissingExtraError(
                "Parquet files are written by pyarrow, which is not installed",
                fix="pip install pyarrow, or write a .csv",
            ) from None
        types = {"layer": arrow.int64(), "value": arrow.float64(), "entries": arrow.int64()}
        schema = arrow.schema([(name, types.get(name, arrow.string())) for name in COLUMNS])
        writer.write_table(arrow.Table.from_pylist(self.records(), schema=schema), str(path))


def _is_several(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset | range)


def _require(columns: Iterable[str]) -> None:
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise MergingError(f"a table has no column {unknown[0]!r}", must_be="one of " + ", ".join(COLUMNS))


def _weighted(rows: Collection[Measurement]) -> float:
    entries = sum(row.entries for row in rows)
    return fsum(row.value * row.entries for row in rows) / entries if entries else 0.0


_COMBINE: dict[How, Callable[[Collection[Measurement]], float]] = {
    "sum": lambda rows: fsum(row.value for row in rows),
    "mean": lambda rows: fsum(row.value for row in rows) / len(rows),
    "weighted": _weighted,
}
