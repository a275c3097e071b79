"""The models a recipe names, opened and recognised; what cannot be merged at all is refused here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from merging.checkpoint.tensors import DTYPES, Checkpoint, TensorSpec
from merging.errors import CheckpointError, MatchError, MergingError, Problems
from merging.families.family import Family, recognise
from merging.families.files import Part
from merging.hub.client import Hub
from merging.hub.fetching import Fetch
from merging.planning.plan import Operand
from merging.recipe.recipe import Recipe
from merging.recipe.source import open_source

# Names that quantised checkpoints store beside or instead of weights, and the format they betray.
QUANTISED_ENDINGS: Mapping[str, str] = {
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
    ".g_idx": "GPTQ",
    ".weight_packed": "compressed-tensors",
    ".weight_scale": "fp8 with scales",
    ".weight_scale_inv": "fp8 with scales",
    ".weight.absmax": "bitsandbytes",
    ".weight.quant_map": "bitsandbytes",
    ".SCB": "bitsandbytes",
    "_blocks": "MXFP4",
}
_ENDINGS = tuple(QUANTISED_ENDINGS)
# `_blocks` alone could be anybody's name; MXFP4 always stores the scales beside them.
_MXFP4_SCALES = "_scales"


@dataclass(frozen=True, eq=False)
class Input:
    """One of the plan's models. `key` is what the recipe calls it; `lent` the config of another, if it has none."""

    key: str
    index: int
    checkpoint: Checkpoint
    lent: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def specs(self) -> Mapping[str, TensorSpec]:
        """All tensors, in file order."""
        return self.checkpoint.specs

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The content of config.json; of another model's where it has none, as bare files do."""
        return self.checkpoint.config or self.lent

    @cached_property
    def family(self) -> Family:
        """The architecture: layers, roles, ties."""
        return recognise(self.config, self.specs.keys())

    @cached_property
    def names_by_layer(self) -> Mapping[int, Sequence[str]]:
        """Tensors of each layer, in file order; for models with one stack."""
        found: dict[int, list[str]] = {}
        for name in self.specs:
            layer = self.family.place(name).layer
            if layer is not None:
                found.setdefault(layer, []).append(name)
        return found

    def names_outside(self, part: Part) -> list[str]:
        """Tensors before or after the layers, in file order."""
        return [name for name in self.specs if self.family.place(name).part == part]

    def find(self, name: str) -> Operand | None:
        """The stored tensor that is `name` when the model is loaded: itself, or the one it is tied to."""
        if name in self.specs:
            return Operand(self.index, name)
        partner = self.family.ties.get(name)
        return Operand(self.index, partner) if partner is not None else None

    def spec(self, operand: Operand) -> TensorSpec:
        """What an operand of this model is."""
        return self.specs[operand.name]


@dataclass(frozen=True)
class Inputs:
    """All models of a plan, in the order in which the recipe mentions them."""

    all: tuple[Input, ...]

    def __getitem__(self, key: str) -> Input:
        return next(each for each in self.all if each.key == key)

    def spec(self, operand: Operand) -> TensorSpec:
        """What an operand is."""
        return self.all[operand.model].specs[operand.name]


def open_inputs(
    recipe: Recipe, checkpoints: Mapping[str, Checkpoint] | None, allow_pickle: bool, fetch: Fetch = "snapshot"
) -> tuple[Inputs, list[MergingError]]:
    """Open every model; those that cannot be opened or merged are problems, and then the result is incomplete."""
    folder = Path(recipe.file).parent if recipe.file else None
    problems: list[MergingError] = []
    opened: list[Checkpoint] = []
    keys = list(recipe.sources())
    tokenizer = recipe.tokenizer_source
    if tokenizer and tokenizer != "base" and tokenizer not in keys:
        keys.append(tokenizer)

    @cache
    def hub() -> Hub:
        return Hub.from_environment().remembering()

    for key in keys:
        try:
            given = (checkpoints or {}).get(key)
            if given is None:
                where = _where(recipe, key)
                given = open_source(
                    key, relative_to=folder, allow_pickle=allow_pickle, where=where, fetch=fetch, hub=hub
                )
            opened.append(given)
        except Problems as several:
            problems += several.problems
        except MergingError as problem:
            problems.append(problem)
    if problems:
        return Inputs(()), problems
    models = dict(zip(keys, opened, strict=True))
    base = [models[recipe.base_model]] if recipe.base_model else []
    lent = next((model.config for model in (*base, *opened) if model.config), {})
    inputs = Inputs(tuple(Input(key, i, model, lent) for i, (key, model) in enumerate(models.items())))
    return inputs, [problem for each in inputs.all for problem in _refusals(each)]


def _where(recipe: Recipe, key: str) -> str:
    """Where the recipe first names a model; the tokenizer's may be named nowhere else."""
    return recipe.where_source(key) if key in recipe.sources() else recipe.where("tokenizer_source")


def _refusals(model: Input) -> list[MergingError]:
    if not model.specs:
        return [CheckpointError(f"{model.key} holds no tensors", where=model.checkpoint.location)]
    method = quantisation(model)
    if method is None:
        return []
    return [
        MatchError(
            f"{model.key} is quantised ({method})",
            where=model.checkpoint.location,
            must_be="numbers that can be averaged: its tensors are codes that mean nothing without their scales",
            fix="merge the unquantised model it was made from, or dequantise it first, and quantise the result",
        )
    ]


def quantisation(model: Input) -> str | None:
    """How a checkpoint is quantised, by its config or by its tensors' names and dtypes; None if it is not."""
    told = model.config.get("quantization_config")
    if isinstance(told, Mapping) and told:
        return str(told.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in told else "quantization_config"))
    for name, spec in model.specs.items():
        if spec.dtype in ("F4", "F6_E2M3", "F6_E3M2", "F8_E8M0"):
            return f"{name} is {spec.dtype}"
        if name.endswith(_ENDINGS):
            ending = next(ending for ending in _ENDINGS if name.endswith(ending))
            # Names alone are not proof: weights beside them must be codes.
            if _beside_codes(model.specs, name, ending):
                return f"{QUANTISED_ENDINGS[ending]}: {name}"
    return None


def _beside_codes(specs: Mapping[str, TensorSpec], name: str, ending: str) -> bool:
    stem = name.removesuffix(ending)
    if ending == "_blocks":
        return stem + _MXFP4_SCALES in specs
    weights: Sequence[str] = (name, f"{stem}.weight", f"{stem}.weight_packed", f"{stem}.qweight")
    return any(weight in specs and DTYPES[specs[weight].dtype].bits <= 8 for weight in weights) or any(
        weight in specs and DTYPES[specs[weight].dtype].kind == "integer" for weight in weights
    )
