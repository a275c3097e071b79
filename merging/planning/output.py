"""What stands beside the output's tensors: config.json, and the model whose tokenizer is copied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from merging.checkpoint.sidecars import with_dtype
from merging.families.family import look_up
from merging.planning.inputs import Input, Inputs
from merging.planning.plan import Job
from merging.planning.sections import Section
from merging.recipe.recipe import Recipe

# Settings that tensors of equal names and shapes may be meant for differently.
MEANING_KEYS = (
    "architectures",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "rope_theta",
    "rope_scaling",
    "sliding_window",
)


def find_outline(recipe: Recipe, inputs: Inputs) -> Input:
    """The model whose config the output gets: the base model, else the first one named."""
    return inputs[recipe.base_model] if recipe.base_model else inputs.all[0]


def find_sidecars(recipe: Recipe, inputs: Inputs) -> int:
    """The model whose tokenizer and other files are copied."""
    if recipe.tokenizer_source and recipe.tokenizer_source != "base":
        return inputs[recipe.tokenizer_source].index
    return find_outline(recipe, inputs).index


def output_config(
    recipe: Recipe, sections: Sequence[Section], outline: Input, jobs: Sequence[Job], warnings: list[str]
) -> dict[str, Any]:
    """The outline's config with the output's dtype and, for slices, the number of its layers and lists over them."""
    config = dict(outline.config)
    if not config:
        return {}
    if not outline.checkpoint.config:
        warnings.append(f"{outline.key} has no config.json; the output gets that of another model")
    if recipe.slices:
        config = _with_layers(config, sections, outline, warnings)
    asked = recipe.out_dtype or recipe.dtype
    if asked or "dtype" in config or "torch_dtype" in config:
        sizes: Counter[str] = Counter()
        for job in jobs:
            if job.spec.is_float and job.role != "buffer":
                sizes[job.spec.dtype] += job.spec.nbytes
        dtype = asked or (sizes.most_common(1)[0][0] if sizes else None)
        config = with_dtype(config, dtype) if dtype else config
    return config


def _with_layers(
    config: dict[str, Any], sections: Sequence[Section], outline: Input, warnings: list[str]
) -> dict[str, Any]:
    key = outline.family.count_key()
    if key is None:
        warnings.append(
            f"config.json of {outline.key} does not say how many layers there are, so the output's does not"
        )
        return config
    path = key.split(".")[:-1]
    layers = sum(section.layers for section in sections)
    inner = dict(look_up(config, ".".join(path)) if path else config)
    inner[key.split(".")[-1]] = layers
    for name, value in inner.items():
        if isinstance(value, list) and len(value) == outline.family.layers and ("layer" in name or "block" in name):
            inner[name] = [entry for section in sections for entry in _entries(section, ".".join([*path, name]), value)]
    return {**config, path[0]: inner} if path else inner


def _entries(section: Section, path: str, default: Sequence[Any]) -> list[Any]:
    """What a list over the layers says about the layers of a section, in the model they come from."""
    model, first = section.reference.model, section.reference.first
    own = look_up(model.config, path)
    listed = own if isinstance(own, list) and len(own) == model.family.layers else default
    return [listed[min(layer, len(listed) - 1)] for layer in range(first, first + section.layers)]


def config_warnings(sections: Sequence[Section], outline: Input) -> list[str]:
    """Settings in which models differ though their tensors match, and models that are there twice."""
    merged = list(dict.fromkeys(source.model for section in sections for source in section.sources))
    warnings = []
    for model in merged:
        pairs = [(key, _setting(model, key), _setting(outline, key)) for key in MEANING_KEYS]
        differing = [
            f"{key} {own} and {outs}" for key, own, outs in pairs if own is not None and own != outs is not None
        ]
        if model is not outline and differing:
            warnings.append(
                f"config.json of {model.key} and {outline.key} differ: {', '.join(differing)}; the output gets the last"
            )
    return [*warnings, *_miscounted(outline), *_same_as_base(sections)]


def _setting(model: Input, key: str) -> Any:
    inner = model.config.get("text_config")
    return model.config.get(key, inner.get(key) if isinstance(inner, Mapping) else None)


def _miscounted(model: Input) -> list[str]:
    if not model.config or len(model.family.stacks) != 1:
        return []
    told = look_up(model.config, model.family.count_key() or "")
    if isinstance(told, int) and told != model.family.layers:
        return [f"config.json of {model.key} says {told} layers; its tensors are of {model.family.layers}"]
    return []


def _same_as_base(sections: Sequence[Section]) -> list[str]:
    found = {}
    for section in sections:
        for source in section.operands if section.base else ():
            assert section.base
            if source.model is not section.base.model and _location(source.model) == _location(section.base.model):
                found[source.key] = section.base.key
    return [f"{key} is the base model {base} itself, so its task vector is zero" for key, base in found.items()]


def _location(model: Input) -> str:
    return str(Path(model.checkpoint.location).resolve()) if model.checkpoint.location != "memory" else repr(id(model))
