"""One more model into a finished merge, without the models it was made from, by its record and its ledger."""

from __future__ import annotations

from collections.abc import Mapping
from math import hypot, sqrt
from pathlib import Path
from typing import Any

from merging.engine.ledger import Row
from merging.engine.verify import record_of, recorded_file
from merging.errors import CheckpointError, RecipeError
from merging.methods.declare import Earlier, Method, all_methods, find_method
from merging.recipe.recipe import ModelEntry, Recipe, Setting
from merging.recipe.source import open_source


def continued_recipe(out: Path | str, model: str) -> Recipe:
    """The recipe that merges `model` into what the finished merge in `out` made, as if it had been the last input.

    Raises VerificationError where `out` holds no finished merge, RecipeError where its method cannot go on from its own
    result, CheckpointError where the base model is not the one it was made with.
    """
    out = Path(out)
    record, rows = record_of(out)
    recipe = record["recipe"]
    method = find_method(recipe["merge_method"])
    _require_continuing(method, recipe, out)
    assert method.needs.continued
    values = method.needs.continued(_earlier(method, rows, out))
    base = _base(record, recipe, out) if method.needs.base != "unused" else None
    own: list[dict[str, tuple[Setting, ...]]] = [{}, {}]
    shared: dict[str, tuple[Setting, ...]] = {}
    for name, value in values.items():
        if isinstance(value, tuple):
            for block, each in zip(own, value, strict=True):
                block[name] = (Setting(each),)
        else:
            shared[name] = (Setting(value),)
    entries = tuple(ModelEntry(source, block) for source, block in zip((str(out), model), own, strict=True))
    return Recipe(method.name, entries, base_model=base, parameters=shared, seed=int(record.get("seed", 0)))


def _require_continuing(method: Method, recipe: Mapping[str, Any], out: Path) -> None:
    where = f"the record of {out}"
    if method.needs.continued is None:
        able = [other.name for other in all_methods().values() if other.needs.continued]
        raise RecipeError(
            f"{method.name} cannot add a model to its own result",
            where=where,
            must_be="a merge by one of " + ", ".join(able),
            fix="merge all models again, with the new one in the recipe",
        )
    if "slices" in recipe:
        raise RecipeError("a stack of slices cannot be continued", where=where, must_be="a merge of whole models")


def _earlier(method: Method, rows: Mapping[str, Row], out: Path) -> Earlier:
    """What the ledger says of a merge as a whole."""
    merged = [row for row in rows.values() if row["rule"] == "merge" and row.get("counted", True)]
    if not merged:
        raise RecipeError(f"{out} holds no merged tensor", fix="merge all models again, with the new one in the recipe")
    first = merged[0]["parameters"]
    for row in merged:
        if row["parameters"] != first:
            raise RecipeError(
                f"{method.name} had other parameters for {row['tensor']} than for {merged[0]['tensor']}",
                where=f"the record of {out}",
                must_be="one value of every parameter for all tensors",
                fix="merge all models again, with the new one in the recipe",
            )
    squares = zip(*([operand["norm"] ** 2 for operand in row["operands"]] for row in merged), strict=True)
    lengths = [float(row.get("unfinished_norm") or row["merged_norm"] or 0.0) for row in merged]
    return Earlier(first, tuple(sqrt(sum(each)) for each in squares), hypot(*lengths))


def _base(record: Mapping[str, Any], recipe: Mapping[str, Any], out: Path) -> str:
    """Where the base model lies, seen from here; it must be the one that the merge was made with."""
    named = str(recipe["base_model"])
    file = recorded_file(record, out)
    found = open_source(named, relative_to=Path(file).parent if file else None)
    known = {each["source"]: each["fingerprint"] for each in record["models"]}
    if known.get(named) != found.fingerprint:
        raise CheckpointError(
            f"the base model {named} is not the one that {out} was merged with",
            where=found.location,
            must_be=f"fingerprint {known.get(named)}",
            fix="put that base model back, or merge all models again",
        )
    return str(found.location)
