"""What a PEFT LoRA adapter says, from its config and tensor names alone: which tensors it changes, and by how much.

Changed tensor = base tensor + scale * B A, with scale = lora_alpha / r, or lora_alpha / sqrt(r) under use_rslora.
Whatever else an adapter can be (DoRA, activated, tied to another base) is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite, prod, sqrt
from typing import Any

from merging.checkpoint.headers import PROBLEM_LIMIT, raise_some, shown
from merging.checkpoint.tensors import TensorSpec
from merging.errors import CheckpointError, MatchError, MergingError, nearest

# Keys of adapter_config.json that change nothing beyond what is read here; any other that is set is refused.
_HARMLESS = """
    peft_type task_type auto_mapping peft_version base_model_name_or_path revision inference_mode r target_modules
    exclude_modules lora_alpha lora_dropout fan_in_fan_out bias use_rslora modules_to_save init_lora_weights
    layers_to_transform layers_pattern rank_pattern alpha_pattern megatron_core loftq_config eva_config
    runtime_config qalora_group_size velora_config
"""
_KNOWN = {
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "kasa_config": "KaSA",
    "monteclora_config": "Monte Carlo LoRA",
    "arrow_config": "Arrow routing",
    "alora_invocation_tokens": "activated LoRA",
    "lora_bias": "a bias in LoRA layers",
    "target_parameters": "LoRA on bare parameters",
    "trainable_token_indices": "trained single tokens",
    "layer_replication": "replicated layers",
}
# Other initialisations train against a base model that they changed first.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.weight)?")
_REPEATED_GROUP = re.compile(r"\)[*+{]")


@dataclass(frozen=True, slots=True)
class Update:
    """What is added to one tensor: scale * up @ down, or its transpose where the tensor is stored transposed."""

    up: str
    down: str
    scale: float
    transposed: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """All that an adapter does to its base model, by names of the base: updates, and tensors it brings whole."""

    updates: Mapping[str, Update]
    whole: Mapping[str, str]


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Raise CheckpointError or Problems unless the config describes plain LoRA."""
    problems: list[MergingError] = []
    harmless = _HARMLESS.split()
    if config.get("peft_type") != "LORA":
        problems.append(
            CheckpointError(f"this adapter is of type {shown(config.get('peft_type'))}", where=where, must_be="LORA")
        )
    for key, value in config.items():
        if value and key not in harmless:
            problems.append(
                CheckpointError(
                    f"this adapter uses {_KNOWN.get(key, key)}, which cannot be merged here",
                    where=f"{where}, {key}: {shown(value)}",
                    must_be="plain LoRA",
                )
            )
    for key, kind in (("alpha_pattern", dict), ("rank_pattern", dict), ("modules_to_save", list)):
        if not isinstance(config.get(key) or kind(), kind):
            problems.append(
                CheckpointError(f"{key} is {shown(config[key])}", where=where, must_be=f"a {kind.__name__}")
            )
    start = config.get("init_lora_weights")
    if start not in _PLAIN_STARTS:
        problems.append(
            CheckpointError(
                f"this adapter was started by {shown(start)}, which changes the base model first",
                where=where,
                must_be="an adapter of the unchanged base model",
                fix="convert it with PEFT: save_pretrained(..., path_initial_model_for_weight_conversion=...)",
            )
        )
    raise_some(problems)


def match_changes(
    config: Mapping[str, Any], tensors: Mapping[str, TensorSpec], base: Mapping[str, TensorSpec], where: str
) -> Changes:
    """Every tensor of an adapter set against the base model's; PEFT's copies of modules it replaced are passed over.

    Raises Problems for any that finds no place: an adapter that is only half used would pass unnoticed.
    """
    factors: dict[str, dict[str, str]] = {}
    whole: dict[str, str] = {}
    problems: list[MergingError] = []
    for name in tensors:
        module = name.removeprefix("base_model.model.")
        if match := _FACTOR.fullmatch(module):
            key = "down" if match["side"] == "A" else "up"
            factors.setdefault(match["module"], {"embedding": match["embedding"] or ""})[key] = name
        elif ".lora_" in module:
            problems.append(CheckpointError(f"{shown(name)} is no tensor of plain LoRA", where=where))
        elif ".original_module." not in f".{module}":
            whole[module.replace(".base_layer.", ".").replace(".modules_to_save.", ".")] = name
    raise_some(problems)
    place = _renaming([f"{module}.weight" for module in factors], base)
    kept = [str(module) for module in config.get("modules_to_save") or ()]
    for name, source in whole.items():
        if place(name) not in base and not any(f".{module}." in f".{name}" for module in kept):
            problems.append(_placeless(source, place(name), base, where))
    brought = {place(name): source for name, source in whole.items()}
    targets = {**base, **{name: tensors[source] for name, source in brought.items()}}
    updates: dict[str, Update] = {}
    for module, parts in factors.items():
        target = place(f"{module}.weight")
        try:
            updates[target] = _update(config, tensors, targets, module, target, parts, where)
        except MergingError as error:
            problems.append(error)
        if len(problems) > PROBLEM_LIMIT:
            break
    raise_some(problems)
    return Changes(updates, brought)


def _renaming(targets: Sequence[str], base: Mapping[str, TensorSpec]) -> Callable[[str], str]:
    """How the adapter's names become the base's: as they are, or all with one prefix more or less.

    Libraries keep the prefix of the backbone ("transformer.", "bert.") in memory and often not on disk.
    """
    for add, drop in _prefixes(targets[0], base) if targets else ():
        if all(_renamed(add, drop, name) in base for name in targets):
            return partial(_renamed, add, drop)
    return partial(_renamed, "", "")


def _renamed(add: str, drop: str, name: str) -> str:
    return add + name.removeprefix(drop)


def _prefixes(target: str, base: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield "", ""
    for name in base:
        if name.endswith("." + target):
            yield name.removesuffix(target), ""
        elif target.endswith("." + name):
            yield "", target.removesuffix(name)


def _update(
    config: Mapping[str, Any],
    tensors: Mapping[str, TensorSpec],
    base: Mapping[str, TensorSpec],
    module: str,
    target: str,
    parts: Mapping[str, str],
    where: str,
) -> Update:
    if "up" not in parts or "down" not in parts:
        raise CheckpointError(f"LoRA on {shown(module)} has only one of its two factors", where=where)
    if target not in base:
        raise _placeless(parts["up"], target, base, where)
    up, down = tensors[parts["up"]], tensors[parts["down"]]
    rank = down.shape[0] if down.shape else 0
    if not base[target].is_float or not up.is_float or not down.is_float:
        raise CheckpointError(
            f"LoRA on {shown(target)} joins {base[target].dtype}, {up.dtype}, {down.dtype}", where=where
        )
    if len(up.shape) < 2 or len(down.shape) < 2 or up.shape[1] != rank or prod(up.shape[2:]) != 1:
        raise CheckpointError(f"factors of {_shape(up)} and {_shape(down)} do not multiply", where=f"{where}, {module}")
    straight = (up.shape[0], *down.shape[1:])
    across = straight[::-1] if len(straight) == 2 else ()
    stored = base[target].shape
    if parts["embedding"] or config.get("fan_in_fan_out"):
        # PEFT takes fan_in_fan_out back where the layer turns out to be an ordinary linear one.
        transposed = stored == across
        fits = transposed or (stored == straight and not parts["embedding"])
    else:
        transposed, fits = False, stored == straight
    if not fits:
        raise MatchError(
            f"an update of shape {straight} does not fit {shown(target)} of shape {stored}",
            where=where,
            must_be="factors made for this base model; fan_in_fan_out: true for layers stored transposed",
        )
    return Update(parts["up"], parts["down"], _scale(config, module, rank, where), transposed)


def _shape(spec: TensorSpec) -> str:
    return " x ".join(map(str, spec.shape)) or "()"


def _scale(config: Mapping[str, Any], module: str, rank: int, where: str) -> float:
    patterns = config.get("alpha_pattern") or {}
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    numerator = next((value for key, value in patterns.items() if _matches(key, module, where)), None)
    numerator = config.get("lora_alpha", 8) if numerator is None else numerator
    if type(numerator) not in (int, float) or not isfinite(numerator):
        raise CheckpointError(f"lora_alpha is {shown(numerator)}", where=f"{where}, {module}", must_be="a number")
    if rank not in ranks or rank < 1:
        raise CheckpointError(
            f"the factors have rank {rank}", where=f"{where}, {module}", must_be=f"one of the config's: {shown(ranks)}"
        )
    return float(numerator / (sqrt(rank) if config.get("use_rslora") else rank))


def _matches(pattern: str, module: str, where: str) -> bool:
    """Whether a key of alpha_pattern means a module: as PEFT reads it, a regular expression for its last parts."""
    # A repeated group, or many repetitions, could take for ever to match.
    if len(pattern) > 256 or _REPEATED_GROUP.search(pattern) or sum(pattern.count(x) for x in "*+{") > 4:
        raise CheckpointError(f"the pattern {shown(pattern)} is too intricate", where=where, must_be="a module's name")
    try:
        return re.match(rf"(.*\.)?({pattern})$", module) is not None
    except re.error as error:
        raise CheckpointError(f"the pattern {shown(pattern)} is not valid: {error}", where=where) from None


def _placeless(source: str, target: str, base: Mapping[str, TensorSpec], where: str) -> MergingError:
    close = nearest(target, base)
    return MatchError(
        f"the base model has no tensor {shown(target)} for {shown(source)}",
        where=where,
        must_be="an adapter of this base model, used to its last tensor",
        fix=f"nearest: {', '.join(close)}" if close else None,
    )
