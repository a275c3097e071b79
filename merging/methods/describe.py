"""What a method costs and how a recipe asks for it, said from its declaration."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from merging.methods.declare import Method
from merging.methods.parameters import REQUIRED, Parameter
from merging.methods.rounds import Rule, is_planned, is_sampled, only_if, reads

# What each reach holds in memory while a tensor is merged.
HELD: Mapping[str, str] = {
    "span": "in memory: blocks",
    "element": "in memory: blocks",
    "row": "in memory: blocks of whole rows",
    "matrix": "in memory: one whole matrix of every input",
    "tensor": "in memory: one whole tensor of every input",
}
# What `declare.is_matrix` decides and `layout.by_matrix` carries out, for readers.
MATRICES = (
    "A tensor of two axes or more counts as a matrix (out, in) if neither side is 1 and it is no table, as embeddings, "
    "relative positions, output heads and classifiers are{kernels}; fused projections and packed experts are several; "
    "all others get "
)
KERNELS = {True: ", a convolution's kernel as (out, rest)", False: ", and no convolution's kernel"}
WORDS = ("no", "one", "two", "three", "four", "five", "six")


def readings(method: Method) -> tuple[int, int]:
    """How often every input is read: at the defaults, and with every measuring round."""
    every = [step.rule if isinstance(step, only_if) else step for step in method.needs.measure]
    called_for = method.needs.readings(_values(method))
    return 1 + sum(map(reads_all, called_for)), 1 + sum(map(reads_all, every))


def reads_all(step: Rule) -> bool:
    """Whether a round reads the whole of every input: no sample, and not only where a sample misled."""
    return reads(step) and is_planned(step) and not is_sampled(step)


def _values(method: Method) -> dict[str, Any]:
    return {name: True if knob.default is REQUIRED else knob.default for name, knob in method.parameters.items()}


def cost(method: Method) -> str:
    """Readings of the inputs, what is held in memory, and what else a merge takes."""
    least, most = readings(method)
    times = _times(least) if least == most else f"{_times(least)}, or {_times(most)} with every option"
    parts = [f"reads every input {times}", HELD[method.needs.reach]]
    if method.needs.order == "sequential":
        parts[1] = parts[1].replace("of every input", "at a time") + ", however many models"
    if method.needs.elsewhere:
        parts.append("tensors that are no matrices are a linear pass")
    if method.needs.measure and method.needs.scope == "model":
        parts.append("measures the whole model before it merges")
    if method.needs.finish:
        parts.append("keeps the merged task vectors on disk in float32 until the whole model is known")
    return "; ".join(parts)


def matrices(method: Method) -> str:
    """Which tensors a method of matrices takes for one, and what the others get; empty for all other methods."""
    elsewhere = method.needs.elsewhere
    if elsewhere is None:
        return ""
    given = (inspect.getdoc(elsewhere) or "").split("\n\n")[0].replace("\n", " ")
    return MATRICES.format(kernels=KERNELS[method.needs.kernels]) + given[:1].lower() + given[1:]


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count) or f"{WORDS[count] if count < len(WORDS) else count} times"


def example(method: Method) -> str:
    """A recipe that runs as soon as its paths are right."""
    lines = [f"merge_method: {method.name}"]
    needs = method.needs
    base_is_listed = needs.sees == "models" and needs.base == "required"
    if needs.base == "required" or (needs.base == "optional" and needs.sees == "task_vectors"):
        lines.append("base_model: models/base")
    least, most = needs.inputs
    count = max(1, min(max(2, least), most or max(2, least)) - base_is_listed)
    own = [knob for knob in method.parameters.values() if knob.kind.per_model and knob.default is REQUIRED]
    lines.append("models:")
    for name in ("math", "code", "chat", "law")[:count]:
        lines.append(f"  - model: models/{name}")
        if needs.companions:
            pairs = ", ".join(f"{each}: models/{name}-{each}" for each in needs.companions)
            lines.append(f"    companions: {{{pairs}}}")
        lines += [f"    parameters: {{{', '.join(f'{knob.name}: 0.5' for knob in own)}}}"] if own else []
    shared = dict(_shown(method))
    if shared:
        lines += ["parameters:", *(f"  {name}: {value}" for name, value in shared.items())]
    return "\n".join([*lines, "dtype: bfloat16"])


def _shown(method: Method) -> Iterator[tuple[str, str]]:
    """The first few parameters that do something, at their defaults or examples; a middle for what has neither."""
    knobs = [knob for knob in method.parameters.values() if "no effect" not in knob.says]
    for knob in [knob for knob in knobs if not (knob.kind.per_model and knob.default is REQUIRED)][:4]:
        yield knob.name, _spelled(knob)


def _spelled(knob: Parameter) -> str:
    if knob.kind.example is not None:
        return str(knob.kind.example)
    if knob.default is REQUIRED:
        return knob.kind.choices[0] if knob.kind.choices else "0.5" if knob.kind.type == "number" else "1"
    return str(knob.default).lower() if isinstance(knob.default, bool) else str(knob.default)
