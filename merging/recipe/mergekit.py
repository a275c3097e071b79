"""mergekit's dialect rewritten into the canonical recipe, or refused with everything that stands in the way.

Model references are `path[@revision][+adapter[@revision]]` or the same as a block; a leading `model:` is dropped.
`seed`, `missing_tensors` and `extra_tensors` are additions to the dialect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from merging.errors import RecipeError, nearest, raise_all
from merging.recipe.faults import Fault, find_faults
from merging.recipe.recipe import (
    DTYPE_NAMES,
    Key,
    KeyPath,
    ModelEntry,
    Parameters,
    Place,
    Places,
    Recipe,
    Setting,
    Slice,
    SliceSource,
    spell_place,
)
from merging.recipe.schema import RECIPE


def rewrite(data: Any, misread: Sequence[Fault], *, places: Places, file: str | None, lenient: bool = False) -> Recipe:
    """The canonical recipe of plain data in the dialect; `misread` is what was wrong with its text already.

    Raises every problem at once, in the order of the text.
    """
    unread = {fault.path for fault in misread}
    faults = [*misread, *(fault for fault in find_faults(data, RECIPE) if fault.path not in unread)]
    unknown = [_with_hint(fault) for fault in faults if fault.known]
    faults = [fault for fault in faults if not fault.known]
    if isinstance(data, dict):
        faults += _rule_faults(data, [fault.path for fault in faults])
    refused = faults if lenient else faults + unknown
    refused.sort(key=lambda fault: _position(places, fault))
    raise_all([_problem(file, places, fault) for fault in refused])
    ignored = [f"{fault.what} ({spell_place(file, places, fault.path)}): {fault.fix}" for fault in unknown]
    return _build(data, places, file, tuple(ignored))


def _position(places: Places, fault: Fault) -> tuple[int, int]:
    path = fault.path
    while path and path not in places:
        path = path[:-1]
    place = fault.place or places.get(path, Place(0, 0))
    return place.line, place.column


def _problem(file: str | None, places: Places, fault: Fault) -> RecipeError:
    exact = places if fault.place is None else {**places, fault.path: fault.place}
    where = spell_place(file, exact, fault.path)
    return RecipeError(fault.what, where=where, must_be=fault.must_be, fix=fault.fix)


def _with_hint(fault: Fault) -> Fault:
    """The fault of an unknown key, with a better fix where the key belongs elsewhere."""
    key = str(fault.path[-1])
    if key == "revision" and "model" in fault.known:
        fix = "write the revision behind the model: `model: path@revision`"
    elif "parameters" in fault.known and key in _parameter_names():
        fix = f"{key!r} is a parameter: indent it under `parameters:`"
    else:
        return fault
    return Fault(fault.path, fault.what, fault.must_be, fix, fault.known)


def _parameter_names() -> set[str]:
    from merging.methods.declare import all_methods

    return {name for method in all_methods().values() for name in method.parameters}


def _rule_faults(data: Mapping[str, Any], broken: list[KeyPath]) -> Iterator[Fault]:
    """What no shape can say. A rule speaks only where the parts it looks at have their shape."""

    def sound(*path: Key) -> bool:
        return not any(bad[: len(path)] == path[: len(bad)] for bad in broken)

    yield from _input_faults(data)
    pieces = data.get("slices")
    for i, piece in enumerate(pieces if isinstance(pieces, list) else ()):
        if sound("slices", i):
            yield from _layer_faults(piece, ("slices", i))
    if data.get("missing_tensors") == "base" and data.get("base_model") is None:
        fix = "add `base_model:`, or delete this line"
        yield Fault(("missing_tensors",), "there is no base model whose tensors could stand in", fix=fix)
    if sound("models") and sound("slices") and sound("base_model") and sound("tokenizer") and sound("tokenizer_source"):
        yield from _tokenizer_faults(data)


def _input_faults(data: Mapping[str, Any]) -> Iterator[Fault]:
    given = [key for key in ("models", "slices", "modules") if data.get(key) is not None]
    if len(given) > 1 and "modules" not in given:
        yield Fault((given[1],), "the recipe has both `models` and `slices`", must_be="one of the two")
    if not given:
        fix = "add `models:` and a line `- model: path` for each"
        yield Fault((), "the recipe names no inputs", must_be="a list under `models:` or `slices:`", fix=fix)


def _layer_faults(piece: Mapping[str, Any], path: KeyPath) -> Iterator[Fault]:
    counts = []
    for k, source in enumerate(piece["sources"]):
        first, stop = source["layer_range"]
        if first >= stop:
            within = (*path, "sources", k, "layer_range")
            must_be = "[first layer, layer after the last]"
            yield Fault(within, f"layer_range [{first}, {stop}] holds no layer", must_be=must_be)
        counts.append(stop - first)
    if len(set(counts)) > 1:
        listed = ", ".join(map(str, counts))
        must_be = "the same number of layers from every source"
        yield Fault((*path, "sources"), f"the sources of one slice span {listed} layers", must_be=must_be)


def _tokenizer_faults(data: Mapping[str, Any]) -> Iterator[Fault]:
    block = data.get("tokenizer")
    if block is not None and data.get("tokenizer_source") is not None:
        must_be = "one of the two"
        yield Fault(("tokenizer",), "the recipe has both `tokenizer` and `tokenizer_source`", must_be=must_be)
        return
    path: KeyPath = ("tokenizer_source",) if block is None else ("tokenizer", "source")
    chosen = _tokenizer_source(data)
    pieces = data.get("slices") or ()
    named = [_reference(entry["model"]) for entry in data.get("models") or ()]
    named += [_reference(source["model"]) for piece in pieces for source in piece["sources"]]
    named += [_reference(block["base_model"]) for block in (data, *pieces) if block.get("base_model") is not None]
    if chosen == "base" and data.get("base_model") is None:
        yield Fault(path, "there is no base model to take the tokenizer from", fix="add `base_model:`")
    elif chosen == "union":
        advice = "write `tokenizer_source: base` where the vocabularies agree"
        yield Fault(path, "`tokenizer_source: union` is not supported yet", fix=advice)
    elif chosen not in (None, "base", *named):
        close = nearest(str(chosen), ["base", *named], count=1)
        fix = f"did you mean {close[0]!r}?" if close else None
        yield Fault(path, f"{chosen!r} is not in this recipe", must_be="`base` or one of the recipe's models", fix=fix)


def _build(data: Mapping[str, Any], places: Places, file: str | None, ignored: tuple[str, ...]) -> Recipe:
    return Recipe(
        method=data["merge_method"],
        models=tuple(
            ModelEntry(
                _reference(entry["model"]),
                _parameters(entry.get("parameters")),
                {name: _reference(written) for name, written in (entry.get("companions") or {}).items()},
            )
            for entry in data.get("models") or ()
        ),
        slices=tuple(_slice(piece) for piece in data.get("slices") or ()),
        base_model=_optional_reference(data.get("base_model")),
        parameters=_parameters(data.get("parameters")),
        dtype=_dtype(data.get("dtype")),
        out_dtype=_dtype(data.get("out_dtype")),
        tokenizer_source=_tokenizer_source(data),
        missing_tensors=data.get("missing_tensors", "refuse"),
        extra_tensors=data.get("extra_tensors", "refuse"),
        seed=data.get("seed", 0),
        file=file,
        places=places,
        ignored=ignored,
    )


def _slice(piece: Mapping[str, Any]) -> Slice:
    sources = tuple(
        SliceSource(_reference(source["model"]), tuple(source["layer_range"]), _parameters(source.get("parameters")))
        for source in piece["sources"]
    )
    return Slice(sources, _parameters(piece.get("parameters")), _optional_reference(piece.get("base_model")))


def _parameters(block: Mapping[str, Any] | None) -> Parameters:
    return {name: _settings(written) for name, written in (block or {}).items()}


def _settings(written: Any) -> tuple[Setting, ...]:
    if isinstance(written, list) and isinstance(written[0], dict):
        return tuple(_setting(condition["value"], condition.get("filter")) for condition in written)
    if isinstance(written, dict):
        return (_setting(written["value"], written.get("filter")),)
    return (_setting(written),)


def _setting(value: Any, name_filter: str | None = None) -> Setting:
    return Setting(tuple(value) if isinstance(value, list) else value, name_filter)


def _optional_reference(written: Any) -> str | None:
    return None if written is None else _reference(written)


def _reference(written: Any) -> str:
    """One spelling for every way of writing a model: `path[@revision][+adapter[@revision]]`."""
    if isinstance(written, str):
        return written.removeprefix("model:") or written
    adapter = f"+{_path(written['lora'])}" if written.get("lora") is not None else ""
    return _path(written["model"]) + adapter


def _path(written: Any) -> str:
    if isinstance(written, str):
        return written.removeprefix("model:") or written or written
    revision = f"@{written['revision']}" if written.get("revision") is not None else ""
    return str(written["path"]) + revision


def _tokenizer_source(data: Mapping[str, Any]) -> str | None:
    block = data.get("tokenizer")
    written: str | None = data.get("tokenizer_source") if block is None else block["source"]
    return None if written is None else _reference(written)


def _dtype(written: str | None) -> str | None:
    return None if written is None else DTYPE_NAMES[written.removeprefix("torch.")]
