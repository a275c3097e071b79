"""Whether models fit together, model by model, from their headers; and what of them changed since one looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import streamlit as st

from merging import contents
from ui import remote
from ui.places import stamp

# Names that a reason spells out, and names among which the nearest are looked for.
MOST_NAMED, MOST_COMPARED = 3, 2_000


@dataclass(frozen=True)
class Fit:
    """What a model is, and how it differs from the one it is held against: what forbids a merge, what is only told."""

    says: str
    against: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def listed(source: str) -> dict[str, Any]:
    """A checkpoint's headers as plain data. Raises MergingError."""
    return _listed(source, stamp(source))


@st.cache_data(max_entries=32, show_spinner=False)
def _listed(source: str, stamped: tuple[tuple[str, int, int], ...]) -> dict[str, Any]:  # noqa: ARG001
    held = contents(remote.opened(source))
    return {"family": held.family, "layers": dict(held.layers), "tensors": [each._asdict() for each in held.tensors]}


def fit(model: Mapping[str, Any], reference: Mapping[str, Any] | None = None) -> Fit:
    """How a model stands to the one whose names and shapes the output has; both as `listed`."""
    says = _says(model)
    if reference is None:
        return Fit(says)
    own, theirs = ({each["name"]: each for each in one["tensors"]} for one in (model, reference))
    more = [name for name in own if name not in theirs]
    against = [
        *_family(model, reference),
        # A tensor with another name is among those that the other model has not.
        *_named(f"lacks {{}} of {_tensors(len(theirs))}", [name for name in theirs if name not in own], more),
        *([f"has {_tensors(len(more))} more: {_some(more)}"] if more else []),
        *_shapes(own, theirs),
    ]
    return Fit(says, tuple(against), tuple(_dtypes(own, theirs)))


def _says(model: Mapping[str, Any]) -> str:
    tensors = model["tensors"]
    layers = " + ".join(map(str, model["layers"].values()))
    entries = counted(sum(each["entries"] for each in tensors))
    stored = "/".join(sorted({each["dtype"] for each in tensors}))
    told = (model["family"], f"{layers} layers" if layers else "", f"{entries} entries", stored)
    return ", ".join(each for each in told if each)


def counted(count: float) -> str:
    """A large number in short.

    >>> counted(3_120_000), counted(12)
    ('3.12 M', '12')
    """
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return f"{count:g}"


def _family(model: Mapping[str, Any], reference: Mapping[str, Any]) -> list[str]:
    if model["family"] != reference["family"]:
        return [f"is {model['family']}, not {reference['family']}"]
    if model["layers"] != reference["layers"]:
        counts = [" + ".join(map(str, each["layers"].values())) or "no" for each in (model, reference)]
        return [f"has {counts[0]} layers, not {counts[1]}"]
    return []


def _tensors(count: int) -> str:
    return f"{count:,} {'tensor' if count == 1 else 'tensors'}"


def _named(says: str, names: Sequence[str], near: Sequence[str]) -> list[str]:
    told = [f"{name}{_nearest(name, near)}" for name in names[:MOST_NAMED]]
    return [f"{says.format(f'{len(names):,}')}: {_some([*told, *names[MOST_NAMED:]])}"] if names else []


def _some(names: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return between.join(names[:MOST_NAMED]) + more


def _nearest(name: str, near: Sequence[str]) -> str:
    close = get_close_matches(name, near[:MOST_COMPARED], n=1, cutoff=0.6)
    return f" (nearest: {close[0]})" if close else ""


def _shapes(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    other = [
        f"{name} {_sides(own[name]['shape'])}, not {_sides(theirs[name]['shape'])}"
        for name in own
        if name in theirs and tuple(own[name]["shape"]) != tuple(theirs[name]["shape"])
    ]
    return [f"has another shape in {_tensors(len(other))}: {_some(other, '; ')}"] if other else []


def _sides(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape)) or "scalar"


def _dtypes(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    other = [each for name, each in own.items() if name in theirs and each["dtype"] != theirs[name]["dtype"]]
    if not other:
        return []
    kinds = "/".join(sorted({each["dtype"] for each in other}))
    theirs_kinds = "/".join(sorted({theirs[each["name"]]["dtype"] for each in other}))
    return [f"stores {_tensors(len(other))} as {kinds}, not {theirs_kinds}"]
