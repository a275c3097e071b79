"""The parameters that tensors really got, from the ledger: gradients, filters and defaults are all resolved there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from merging.methods.declare import Method
from merging.publish.markup import code

_MODELS_SHOWN = 20


def settings_table(ledger: Sequence[Mapping[str, Any]], names: Sequence[str], method: Method | None) -> list[list[str]]:
    """Rows of cells: parameter, its value or the range over all tensors, what it is. `names` are the models'."""
    values: dict[str, dict[int | None, list[Any]]] = {}
    for row in ledger:
        if row["rule"] != "merge" or (method and row["method"] != method.name):
            continue
        models = [operand["model"] for operand in row["operands"]]
        for name, value in row["parameters"].items():
            found = values.setdefault(name, {})
            for model, each in _by_model(value, models):
                found.setdefault(model, []).append(each)
    known = method.parameters if method else {}
    return [
        [code(name), _told(found, names), known[name].says if name in known else ""] for name, found in values.items()
    ]


def _by_model(value: Any, models: Sequence[int]) -> Iterator[tuple[int | None, Any]]:
    """A per-model value of each model, another one of none."""
    if isinstance(value, list) and len(value) == len(models):
        yield from zip(models, value, strict=True)
    else:
        yield None, value


def _told(found: Mapping[int | None, Sequence[Any]], names: Sequence[str]) -> str:
    ranges = {model: _range(values) for model, values in found.items()}
    if len(set(ranges.values())) == 1:
        return next(iter(ranges.values()))
    shown = [f"{code(names[model])} {told}" for model, told in ranges.items() if model is not None]
    more = [f"and {len(shown) - _MODELS_SHOWN} more"] if len(shown) > _MODELS_SHOWN else []
    return "<br>".join([*shown[:_MODELS_SHOWN], *more])


def _range(values: Sequence[Any]) -> str:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if numbers and len(numbers) == len(values):
        low, high = min(numbers), max(numbers)
        return _number(low) if low == high else f"{_number(low)} to {_number(high)}"
    distinct = list(dict.fromkeys(str(value).lower() if isinstance(value, bool) else str(value) for value in values))
    return " or ".join(code(value) for value in distinct[:5])


def _number(value: float) -> str:
    return f"{value:.6g}"
