"""One method on the bundled models: which of them it merges, the settings tried, the best by validation digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from merging.checkpoint.sink import MemorySink
from merging.checkpoint.tensors import Checkpoint, MemoryCheckpoint
from merging.demo.scores import score
from merging.demo.zoo import Zoo
from merging.engine.merge import merge
from merging.errors import MergingError
from merging.methods.declare import Method
from merging.methods.parameters import REQUIRED, Parameter
from merging.planning.build import plan
from merging.recipe.recipe import ModelEntry, Recipe, Scalar, Setting

# What is tried of parameters that many methods share, beside their defaults; all others stay at their defaults.
TRIED: Mapping[str, Sequence[float]] = {"lambda": (0.3, 0.5, 1.0, 1.5), "density": (0.2, 0.5)}
# What is tried of a number that has no default.
FRACTIONS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Trial:
    """The best merge of one method: `mean` over all tasks of the validation digits, `seconds` of merging alone."""

    recipe: Recipe
    merged: Checkpoint
    mean: float
    seconds: float

    @property
    def settings(self) -> dict[str, Scalar]:
        """The values that were given; all others are the method's defaults."""
        return {name: cast("Scalar", settings[0].value) for name, settings in self.recipe.parameters.items()}


@dataclass
class Bench:
    """The zoo's models by name, opened once, and the validation means of merges already seen."""

    zoo: Zoo
    models: Mapping[str, Checkpoint]
    base: str
    seen: dict[str, float] = field(default_factory=dict)

    def best(self, method: Method) -> Trial | str:
        """The best setting of a method, or why there is none."""
        inputs = self._inputs(method)
        if isinstance(inputs, str):
            return inputs
        varied = tried(method)
        if unknown := [name for name, values in varied.items() if not values]:
            return f"no value of {', '.join(unknown)} could be tried"
        chosen = {name: values[0] for name, values in varied.items() if method.parameters[name].default is REQUIRED}
        best = self._try(inputs, chosen)
        # One parameter after the other, each at its best for those before it: the sum of their values, not the product.
        for name, values in varied.items():
            for value in values:
                trial = self._try(inputs, {**chosen, name: value})
                if isinstance(trial, Trial) and (isinstance(best, str) or trial.mean > best.mean):
                    best = trial
            if isinstance(best, Trial):
                chosen = best.settings
        return best

    def _try(self, inputs: Recipe, settings: Mapping[str, Scalar]) -> Trial | str:
        """One merge and its score, or why it could not be made."""
        chosen = {name: (Setting(value),) for name, value in settings.items()}
        recipe = Recipe(inputs.method, inputs.models, base_model=inputs.base_model, parameters=chosen)
        try:
            sink = MemorySink(job.spec for job in plan(recipe, checkpoints=self.models).jobs)
            result = merge(recipe, sink, checkpoints=self.models)
        except MergingError as error:
            return error.what
        merged = MemoryCheckpoint(sink.tensors(), result.plan.config, inputs.method)
        # A parameter without effect gives the same model again.
        digest = merged.fingerprint
        if digest not in self.seen:
            self.seen[digest] = mean(score(merged, "validation", self.zoo))
        return Trial(recipe, merged, self.seen[digest], result.seconds)

    def _inputs(self, method: Method) -> Recipe | str:
        """A recipe of as many fine-tunes as the method takes, or why it cannot be shown here."""
        needs = method.needs
        least, most = needs.inputs
        fine_tunes = [name for name in self.models if name != self.base]
        base_is_operand = needs.sees == "models" and needs.base == "required"
        if most == 1:
            return "takes one model, so it merges nothing by itself"
        if needs.companions:
            return f"needs {', '.join(needs.companions)} of every model, which the zoo does not carry"
        if least > len(fine_tunes) + base_is_operand:
            return f"takes at least {least} models"
        chosen = fine_tunes[:most]
        # In a pair that counts its base model, a fine-tune is the base: the question is what lies between two tasks.
        base = chosen[0] if base_is_operand and most == 2 else self.base
        if base_is_operand and base == self.base:
            chosen = [base, *fine_tunes][:most]
        entries = tuple(ModelEntry(name) for name in chosen)
        return Recipe(method.name, entries, base_model=None if needs.base == "unused" else base)


def tried(method: Method) -> dict[str, tuple[Scalar, ...]]:
    """The values tried of each parameter that is varied, its default among them; those without a default first."""
    knobs = sorted(method.parameters.values(), key=lambda knob: knob.default is not REQUIRED)
    values = {knob.name: _values(knob) for knob in knobs}
    return {name: each for name, each in values.items() if each != (method.parameters[name].default,)}


def _values(parameter: Parameter) -> tuple[Scalar, ...]:
    known: tuple[Scalar, ...] = tuple(TRIED.get(parameter.name, ()))
    if parameter.default is not REQUIRED:
        # The default comes first: where another value does no better, it stays.
        return tuple(dict.fromkeys((parameter.default, *known)))
    match parameter.kind.type:
        case "choice":
            return parameter.kind.choices
        case "flag":
            return (False, True)
        case "number":
            return known or FRACTIONS
        case _:
            return known


def mean(scores: Mapping[str, float]) -> float:
    """Mean over the tasks."""
    return sum(scores.values()) / len(scores)
