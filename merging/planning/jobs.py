"""From matched tensors to jobs: method, parameter values and dtype of every output tensor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from merging.checkpoint.tensors import TensorSpec, promote
from merging.errors import MatchError, MergingError, ParameterError, Problems, RecipeError
from merging.methods.declare import Method, find_method, only_if
from merging.methods.layout import Layout
from merging.planning.inputs import Input, Inputs
from merging.planning.matching import Match
from merging.planning.plan import Job, Operand, Value
from merging.recipe.recipe import Recipe
from merging.recipe.settings import Settings


class JobMaker:
    """Jobs of one recipe and method; problems with parameter values are collected once each."""

    def __init__(self, recipe: Recipe, method: Method, inputs: Inputs):
        self._recipe = recipe
        self._method = method
        # With some values of a parameter another method stands in.
        names = {method.name, *(name for _, _, name in method.needs.instead)}
        self._settings = {name: Settings(recipe, find_method(name)) for name in names}
        self._inputs = inputs
        self._wanted_dtype = recipe.out_dtype or recipe.dtype
        self._problems: dict[str, MergingError] = {}
        self._judged: set[int] = set()

    @property
    def problems(self) -> list[MergingError]:
        """What was wrong with parameter values, in order of appearance."""
        return list(self._problems.values())

    def make(self, match: Match) -> Job | None:
        """The job of one output tensor; None when its parameters are a problem."""
        if match.rule == "copy":
            kept = not match.spec.is_float or match.place.role == "buffer"
            return self._job(match, match.spec if kept else self._stored(match.spec, {match.spec.dtype}))
        method = self._method
        values = self._values(method, match)
        if values is not None and (name := method.stand_in(values)) != method.name:
            method = find_method(name)
            values = self._values(method, match)
        if values is None:
            return None
        sources = (*match.operands, match.base) if match.base else match.operands
        spec = self._stored(match.spec, {self._inputs.spec(operand).dtype for operand in sources})
        if _is_identity(method, values):
            return replace(self._job(match, spec), note=match.note or "one model, unchanged")
        job = self._job(match, spec, method.name, values)
        return replace(job, companions=self._companions(method, match, job.layout))

    def _companions(self, method: Method, match: Match, layout: Layout) -> dict[str, tuple[Operand, ...]]:
        """The statistics of one tensor, by name; those that are not there or do not fit are problems."""
        reach = method.reach(match.spec.shape, match.place.role, layout)
        # Those of a matrix are about its inputs, those of entries about each.
        inputs = (layout.sides(match.spec.shape)[1],) * 2 if reach == "matrix" else tuple(match.spec.shape)
        found: dict[str, tuple[Operand, ...]] = {}
        for name in () if reach == "span" else method.needs.companions:
            held = [self._companion(source.companions[name], match, inputs) for source in match.section.operands]
            if all(held):
                found[name] = tuple(each for each in held if each)
        return found

    def _companion(self, statistics: Input, match: Match, shape: tuple[int, ...]) -> Operand | None:
        name = match.spec.name
        spec = statistics.specs.get(name)
        if spec is not None and tuple(spec.shape) == shape:
            return Operand(statistics.index, name)
        expected = f"the shape {list(shape)}"
        what = f"has no tensor {name}" if spec is None else f"holds {name} in shape {list(spec.shape)}"
        fix = "collect the statistics with the model they belong to"
        problem = MatchError(
            f"{statistics.key} {what}", where=statistics.checkpoint.location, must_be=expected, fix=fix
        )
        self._problems.setdefault(f"{statistics.key}{what}", problem)
        return None

    def _job(self, match: Match, spec: TensorSpec, method: str = "", values: Mapping[str, Value] | None = None) -> Job:
        return Job(
            spec=spec,
            rule="merge" if method else "copy",
            operands=match.operands,
            base=match.base,
            method=method,
            parameters=values or {},
            layer=match.place.layer,
            role=match.place.role,
            layout=Layout.read(match.place.layout),
            counted=match.counted,
            note=match.note,
        )

    def _stored(self, spec: TensorSpec, inputs: set[str]) -> TensorSpec:
        """The tensor in the dtype of the output."""
        dtype = self._wanted_dtype or promote(inputs)
        return spec if spec.dtype == dtype else replace(spec, dtype=dtype)

    def _require(self, method: Method, values: dict[str, Value], models: int) -> None:
        """Equal values are one object, and judged once."""
        if method.needs.refuses and id(values) not in self._judged:
            try:
                method.require(values, models)
            except ParameterError as problem:
                where = self._recipe.where("parameters")
                raise ParameterError(problem.what, where=where, must_be=problem.must_be, fix=problem.fix) from None
            self._judged.add(id(values))

    def _values(self, method: Method, match: Match) -> dict[str, Value] | None:
        keys = [source.key for source in match.section.operands]
        try:
            values = self._settings[method.name].at(
                tensor=match.asks, fraction=match.fraction, slice_index=match.section.index, operands=keys
            )
            self._require(method, values, len(keys))
            return values
        except Problems as several:
            self._problems.update({str(problem): problem for problem in several.problems})
        except ParameterError as problem:
            # A filter that misses many tensors is one problem, named by the first of them.
            self._problems.setdefault(f"{problem.where}{problem.must_be}", problem)
        return None


def _is_identity(method: Method, values: Mapping[str, Value]) -> bool:
    """Whether the result is the one operand: a method of one model leaves it unchanged at its defaults."""
    if method.needs.inputs != (1, 1) or method.needs.sees != "models":
        return False
    defaults = method.defaults()
    return all(
        value == defaults.get(name) or (isinstance(value, tuple) and set(value) == {defaults.get(name)})
        for name, value in values.items()
    )


def whole_model_problems(recipe: Recipe, method: Method, jobs: Sequence[Job]) -> list[MergingError]:
    """Statistics over the whole model mean something only if every tensor is measured alike."""
    if method.needs.scope != "model":
        return []
    merged = [job for job in jobs if job.rule == "merge" and job.method == method.name and job.counted]
    problems: list[MergingError] = []
    for name in measuring_parameters(method):
        differing = _first_difference([(job, job.parameters.get(name)) for job in merged])
        if differing:
            first, other = differing
            problems.append(
                ParameterError(
                    f"{method.name} measures the whole model at once, so {name!r} cannot differ between tensors",
                    where=recipe.where("parameters", name),
                    must_be=f"one value for all tensors; now {_shown(first, name)} and {_shown(other, name)}",
                    fix="write one value without gradient or filter, or choose a method that measures tensor by tensor",
                )
            )
    if _first_difference([(job, [each.model for each in (*job.operands, *_base(job))]) for job in merged]):
        problems.append(
            RecipeError(
                f"{method.name} measures the whole model at once, so every slice must be made from the same models",
                where=recipe.where("slices"),
                fix="choose a method that measures tensor by tensor",
            )
        )
    return problems


def measuring_parameters(method: Method) -> list[str]:
    """Parameters that the measuring rounds take, or that decide whether one is taken."""
    flags = [name for step in method.needs.measure if isinstance(step, only_if) for name in step.parameters]
    steps = [step.rule if isinstance(step, only_if) else step for step in method.needs.measure]
    taken = {name for step in steps for name in inspect.signature(step).parameters}
    return [name for name, knob in method.parameters.items() if knob.argument in taken or name in flags]


def _first_difference(pairs: Sequence[tuple[Job, Any]]) -> tuple[Job, Job] | None:
    return next(((pairs[0][0], job) for job, value in pairs if value != pairs[0][1]), None)


def _base(job: Job) -> tuple[Any, ...]:
    return (job.base,) if job.base else ()


def _shown(job: Job, name: str) -> str:
    value = job.parameters.get(name)
    shown = ", ".join(f"{each:g}" for each in value) if isinstance(value, tuple) else str(value)
    return f"{shown} for {job.spec.name}"
