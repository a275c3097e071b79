"""Which models, over which layers, make which part of the output; and which of them is the base model there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from merging.errors import MergingError, RecipeError
from merging.methods.declare import Method
from merging.planning.inputs import Input, Inputs
from merging.recipe.recipe import Recipe


@dataclass(frozen=True)
class Source:
    """A model, the first of its layers that a slice takes, and the statistics that it brings along."""

    model: Input
    first: int = 0
    companions: Mapping[str, Input] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> str:
        """What the recipe calls the model."""
        return self.model.key


@dataclass(frozen=True)
class Section:
    """A stretch of the output: the whole model (`index` None), or the layers of one slice.

    `operands` are in the method's order; `base` is apart when the method is given task vectors, or may use a base model
    without needing one. `reference` says which tensors there are: the base model if it takes part, else the first.
    """

    operands: tuple[Source, ...]
    base: Source | None
    reference: Source
    has_base: bool
    index: int | None = None
    layers: int = 0
    first_output: int = 0

    @property
    def sources(self) -> tuple[Source, ...]:
        """Operands and the base model."""
        return (*self.operands, self.base) if self.base else self.operands


def make_sections(recipe: Recipe, method: Method, inputs: Inputs) -> tuple[list[Section], list[MergingError]]:
    """The sections of the output in order; one when the recipe lists whole models."""
    problems: list[MergingError] = []
    if recipe.models:
        sources = [
            Source(inputs[entry.source], 0, {name: inputs[path] for name, path in entry.companions.items()})
            for entry in recipe.models
        ]
        base = Source(inputs[recipe.base_model]) if recipe.base_model else None
        if base is not None and base not in sources and method.needs.base != "unused":
            # An unlisted base model takes part as if it stood at the end of the list.
            sources.append(base)
        section = _arrange(recipe, method, sources, base, problems)
        return [section] if section else [], problems
    sections: list[Section] = []
    done = 0
    for index in range(len(recipe.slices)):
        section = _slice(recipe, method, inputs, index, done, problems)
        done += recipe.slices[index].sources[0].layers[1] - recipe.slices[index].sources[0].layers[0]
        sections += [section] if section else []
    return sections, problems


def _slice(
    recipe: Recipe, method: Method, inputs: Inputs, index: int, done: int, problems: list[MergingError]
) -> Section | None:
    piece = recipe.slices[index]
    for k, source in enumerate(piece.sources):
        problems += _layer_problems(recipe, inputs[source.source], index, k)
    lengths = {last - first for first, last in (source.layers for source in piece.sources)}
    if len(lengths) > 1:
        problems.append(
            RecipeError(
                "the sources of a slice span different numbers of layers",
                where=recipe.where("slices", index, "sources"),
                must_be=", ".join(f"{source.source} {list(source.layers)}" for source in piece.sources)
                + " of one length",
            )
        )
        return None
    sources = [Source(inputs[source.source], source.layers[0]) for source in piece.sources]
    key = piece.base_model or recipe.base_model
    base = next((source for source in sources if source.key == key), None)
    starts = {source.first for source in sources}
    if key and base is None and method.needs.base != "unused":
        if len(starts) > 1:
            problems.append(
                RecipeError(
                    f"the base model {key} is not among the sources of the slice, and they take different layers",
                    where=recipe.where("slices", index),
                    fix=f"add `- model: {key}` with its `layer_range` to the sources",
                )
            )
            return None
        base = Source(inputs[key], starts.pop())
    length = lengths.pop()
    return _arrange(recipe, method, sources, base, problems, index=index, layers=length, first_output=done)


def _layer_problems(recipe: Recipe, model: Input, index: int, k: int) -> list[MergingError]:
    """A model without one stack of layers, or with too few."""
    first, last = recipe.slices[index].sources[k].layers
    where = recipe.where("slices", index, "sources", k, "layer_range")
    stacks = model.family.stacks
    if len(stacks) != 1:
        described = ", ".join(f"{name} ({count})" for name, count in stacks.items())
        return [
            RecipeError(
                f"{model.key} has {len(stacks)} stacks of layers: {described}"
                if stacks
                else f"{model.key} has no layers",
                where=where,
                must_be="a model with one stack of layers, where slices are taken",
                fix="list it under `models:`, which merges every tensor by name",
            )
        ]
    count = model.family.layers
    if not 0 <= first < last <= count:
        return [
            RecipeError(
                f"{model.key} has {count} layers, not layers {first} to {last - 1}",
                where=where,
                must_be=f"[first, last] with 0 <= first < last <= {count}",
            )
        ]
    return []


def _arrange(
    recipe: Recipe,
    method: Method,
    sources: Sequence[Source],
    base: Source | None,
    problems: list[MergingError],
    *,
    index: int | None = None,
    layers: int = 0,
    first_output: int = 0,
) -> Section | None:
    """The method's order of operands; a wrong number of them, or no base model where one is needed, is a problem."""
    needs = method.needs
    where = recipe.where() if index is None else recipe.where("slices", index)
    if base is None and needs.base == "required":
        problems.append(
            RecipeError(
                f"{method.name} needs a base model",
                where=where,
                must_be="`base_model:`, the common ancestor of the models",
                fix="add a line `base_model: …`",
            )
        )
        return None
    others = tuple(source for source in sources if source != base)
    if base is None or needs.base == "unused":
        operands, apart = tuple(sources), None
    elif needs.sees == "models" and needs.base == "required":
        operands, apart = (base, *others), None
    else:
        operands, apart = others, base
    least, most = needs.inputs
    if not least <= len(operands) <= (most or len(operands)):
        problems.append(_wrong_count(method, operands, apart, where))
        return None
    return Section(operands, apart, base or sources[0], base is not None, index, layers, first_output)


def _wrong_count(method: Method, operands: Sequence[Source], base: Source | None, where: str) -> MergingError:
    least, most = method.needs.inputs
    bounds = f"{least}" if least == most else f"{least} or more" if most is None else f"{least} to {most}"
    wanted = f"{bounds} model{'' if most == 1 else 's'}"
    if method.needs.sees == "models" and method.needs.base == "required":
        wanted += ", the base model included"
    given = ", ".join(source.key for source in operands) or "none"
    beside = f" beside the base model {base.key}" if base else ""
    missing = least - len(operands)
    return RecipeError(
        f"{method.name} merges {wanted}, not {len(operands)}{beside}: {given}",
        where=where,
        must_be=wanted,
        fix=f"list {missing} more"
        if missing > 0
        else "leave some out, or see `merging methods` for one that takes more",
    )
