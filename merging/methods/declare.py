"""What a merge method declares, and how methods are found.

A method is a function of tensors with keyword parameters. Its declaration states facts; planning reads only the facts,
the engine acts on them, and the laws in tests/laws hold every method to them.

What the function is given and returns depends on `reach`:

span     keyword parameters only -> (models,) coefficients c; the engine computes  anchor + sum c_i (x_i - anchor)
         in one linear pass, plus (sum c - 1) anchor when it sees models. The anchor is the base model when the method
         sees task vectors, else the first operand.
element  (models, *any) float32 -> (*any) float32; any cut of the entries may arrive
row      (models, rows, columns) -> (rows, columns); whole last-axis rows, in rounds as well; one axis is one row
matrix   (models, rows, columns) -> (rows, columns); a whole matrix, outputs by inputs (see `merging.methods.layout`);
         `elsewhere`, a span rule with some of the same parameters, is for all tensors that are none
tensor   (models, *shape) -> (*shape); the whole tensor

A sequential method is called as rule(state, x), state None at first, with one operand at a time. A keyword `measured`
asks for the sums of the rounds, `random` for the place that addresses random numbers, and the name of a companion for
what it holds: (models, *any) beside the operands' entries, or its whole tensors (models, *shape) for reach matrix.

A method that sees "task_vectors" is given fine-tuned minus base and its result is added to the base model.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeAlias, TypeVar, get_args, get_origin

from merging.errors import RecipeError, nearest
from merging.methods.layout import PLAIN, Layout
from merging.methods.parameters import REQUIRED, Kind, Parameter
from merging.methods.rounds import Rule as Rule
from merging.methods.rounds import is_planned, plain
from merging.methods.rounds import only_if as only_if
from merging.methods.rounds import reads as reads

Rule_ = TypeVar("Rule_", bound=Callable[..., Any])
Reach: TypeAlias = Literal["span", "element", "row", "matrix", "tensor"]
# Keywords that are no parameters: the engine fills them.
GIVEN = ("measured", "random", "stands_for")


@dataclass(frozen=True)
class Earlier:
    """A finished merge as its ledger tells it, over the whole model.

    `norms` are the lengths of what the method saw of each input, `length` that of what it merged, before any finish.
    """

    parameters: Mapping[str, Any]
    norms: tuple[float, ...]
    length: float


@dataclass(frozen=True)
class Keeps:
    """How several tasks are kept in one vector: task i is  base + scale_i mask_i vector,  rounded after every product.

    parameter  the method's parameter that chooses one task, counted from 1
    parts      what is kept: (models, *any) float32 -> vector (*any), masks (models, *any) of booleans; any cut may
               arrive
    scales     keyword parameters and statistics only -> (models,) float64
    """

    parameter: str
    parts: Callable[..., Any]
    scales: Rule


@dataclass(frozen=True)
class Needs:
    """The facts that planning and the engine act on; every one is a law in tests/laws.

    base      required: the method is about a base model; optional: it uses one if given; unused: a base model is an
              input like any other.
    inputs    smallest and largest number of operands: all models it sees, the base model included only when the method
              sees models and requires one (then it is the first operand).
    measure   rounds of additive statistics over the operands, each (models, n) float32 -> tensor; they are summed over
              the tensor ("tensor") or over all merged tensors of the model ("model") and handed on as `measured`; see
              merging/methods/rounds.py for those that are special, merging/methods/ranks.py for those that find ranks
    finish    (tally, apply): tally(merged) -> tensor adds up over all tensors; apply(merged, total) is elementwise.
    kernels   whether kernels of convolutions are matrices for its rule.
    companions  names of the checkpoints of statistics that every model brings along. Those of a matrix are of all maps
              in its tensor, so that packed experts, each with inputs of its own, are no matrices then.
    continued   parameter values with which a merge of its own result and one more model is that of all models at once;
                a tuple holds one for the result and one for the model.
    refuses   raises ParameterError for values, each within its bounds, that do not go together; it is given all of
              them, per-model ones as lists, and the number of operands.
    instead   (parameter, value, method): with that value of the parameter a tensor is merged by the other method, which
              takes the same parameters.
    keeps     how all tasks are kept together, for a method whose result serves one of them; `merging compress` does.
    """

    sees: Literal["models", "task_vectors"]
    reach: Reach
    base: Literal["required", "optional", "unused"] = "required"
    inputs: tuple[int, int | None] = (1, None)
    order: Literal["together", "sequential"] = "together"
    measure: tuple[Rule | only_if, ...] = ()
    scope: Literal["tensor", "model"] = "tensor"
    finish: tuple[Rule, Rule] | None = None
    elsewhere: Rule | None = None
    kernels: bool = True
    companions: tuple[str, ...] = ()
    instead: tuple[tuple[str, Any, str], ...] = ()
    continued: Callable[[Earlier], Mapping[str, Any]] | None = None
    refuses: Callable[[Mapping[str, Any], int], None] | None = None
    keeps: Keeps | None = None

    def rounds(self, parameters: Mapping[str, Any]) -> tuple[Rule, ...]:
        """The measuring rounds that these parameter values call for, in order."""
        taken = [step for step in self.measure if not isinstance(step, only_if) or step.is_taken(parameters)]
        return tuple(step.rule if isinstance(step, only_if) else step for step in taken)

    def readings(self, parameters: Mapping[str, Any]) -> tuple[Rule, ...]:
        """Those rounds that read, without those that only what was measured may call for."""
        return tuple(step for step in self.rounds(parameters) if reads(step) and is_planned(step))


@dataclass(frozen=True)
class Method:
    """A declared method: its name, its mathematics and its facts."""

    name: str
    paper: str
    needs: Needs
    function: Rule
    aliases: tuple[str, ...] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def reach(self, shape: Sequence[int], role: str = "", layout: Layout = PLAIN) -> Reach:
        """How far an entry of a tensor of this shape, role and layout looks."""
        return "span" if self.needs.elsewhere and not self._sees(shape, role, layout) else self.needs.reach

    def _sees(self, shape: Sequence[int], role: str, layout: Layout) -> bool:
        """Whether its rule for matrices takes the tensor."""
        is_known = not (layout.is_stacked(shape) and self.needs.companions)
        return is_known and is_matrix(shape, role, layout) and (self.needs.kernels or not layout.is_kernel(shape))

    def rule(self, reach: Reach) -> Rule:
        """The function for tensors of that reach."""
        return self.needs.elsewhere if self.needs.elsewhere and reach == "span" else self.function

    def require(self, values: Mapping[str, Any], models: int) -> None:
        """Raise ParameterError where values that are good one by one do not go together."""
        if self.needs.refuses:
            known = {**self.defaults(), **values}
            listed = {name: self._listed(name, value, models) for name, value in known.items()}
            self.needs.refuses(listed, models)

    def _listed(self, name: str, value: Any, models: int) -> Any:
        if not self.parameters[name].kind.per_model:
            return value
        return list(value) if isinstance(value, tuple | list) else [value] * models

    def stand_in(self, values: Mapping[str, Any]) -> str:
        """Name of the method that merges with these parameter values: this one, or another that it names."""
        known = {**self.defaults(), **values}
        return next((name for key, value, name in self.needs.instead if known[key] == value), self.name)

    @property
    def summary(self) -> str:
        """First sentence of the docstring."""
        return inspect.getdoc(self.function).split("\n\n")[0].replace("\n", " ")  # type: ignore[union-attr]

    @property
    def theorem(self) -> str:
        """The whole docstring."""
        return inspect.getdoc(self.function) or ""

    def defaults(self) -> dict[str, Any]:
        """Value of every parameter that has a default."""
        return {name: knob.default for name, knob in self.parameters.items() if knob.default is not REQUIRED}


_METHODS: dict[str, Method] = {}
_NAMES: dict[str, str] = {}


def merge_method(name: str, *, paper: str, aliases: tuple[str, ...] = (), **needs: Any) -> Callable[[Rule_], Rule_]:
    """Declare a function as the merge method `name`; the keywords are the fields of `Needs`. Returns it unchanged."""

    def declare(function: Rule_) -> Rule_:
        facts = Needs(**needs)
        if facts.keeps and (facts.sees, facts.reach, facts.order) != ("task_vectors", "element", "together"):
            raise ValueError(f"{name} can keep tasks only if it sees the entries of all task vectors together")
        for known in (name, *aliases):
            if _NAMES.setdefault(known, name) != name:
                raise ValueError(f"two methods are called {known!r}")
        _METHODS[name] = Method(name, paper, facts, function, aliases, _parameters(function, facts))
        return function

    return declare


def _parameters(function: Callable[..., Any], needs: Needs) -> dict[str, Parameter]:
    """Keyword parameters of a method and of its rounds; a round repeats a parameter without a default."""
    rounds = [plain(step) for step in needs.measure]
    others = [needs.elsewhere] if needs.elsewhere else []
    others += [needs.keeps.parts, needs.keeps.scales] if needs.keeps else []
    found: dict[str, Parameter] = {}
    for step in (function, *rounds, *others, *(needs.finish or ())):
        for argument in inspect.signature(step).parameters.values():
            kind = None if argument.name in (*GIVEN, *needs.companions) else _kind(step, argument)
            name = (kind.key if kind else "") or argument.name.rstrip("_")
            if kind is not None and name not in found:
                says = _explained(function, name)
                found[name] = Parameter(name, argument.name, kind, argument.default, says)
    return found


def _kind(step: Callable[..., Any], argument: inspect.Parameter) -> Kind | None:
    if argument.kind is not inspect.Parameter.KEYWORD_ONLY:
        return None
    annotation = argument.annotation
    if isinstance(annotation, str):
        annotation = eval(annotation, sys.modules[step.__module__].__dict__)
    if get_origin(annotation) is Literal:
        return Kind("choice", choices=get_args(annotation))
    for extra in get_args(annotation)[1:]:
        if isinstance(extra, Kind):
            return extra
    raise TypeError(f"parameter {argument.name} of {step.__qualname__} has no kind; use PerModel, Share, Number, …")


def _explained(function: Callable[..., Any], name: str) -> str:
    """The docstring's line `name: what it is`."""
    for line in (inspect.getdoc(function) or "").splitlines():
        if line.strip().startswith(f"{name}: "):
            return line.split(": ", 1)[1].strip()
    return ""


def is_matrix(shape: Sequence[int], role: str = "", layout: Layout = PLAIN) -> bool:
    """Whether a tensor is linear maps for spectral methods: two axes or more, no side of a map 1, not a table.

    Embeddings, relative positions, output heads and classifiers are tables of words, places or classes; those of words
    are the largest tensors of language models. What stands between the layers and a head is a map like any other.
    """
    is_table = role.endswith(".position") or role.partition(".")[0] in ("embedding", "head", "classifier")
    is_table &= not role.endswith((".projection", ".transform"))
    return len(shape) > 1 and min(layout.sides(shape)) > 1 and not is_table


@cache
def _discover() -> None:
    import merging.methods as package

    for module in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")


def all_methods() -> Mapping[str, Method]:
    """Every declared method by name, in alphabetical order."""
    _discover()
    return dict(sorted(_METHODS.items()))


def find_method(name: str, where: str | None = None) -> Method:
    """The method called `name`, or by one of its aliases.

    Raises RecipeError naming the nearest methods.
    """
    _discover()
    if name in _NAMES:
        return _METHODS[_NAMES[name]]
    close = nearest(name, _NAMES)
    raise RecipeError(
        f"no merge method is called {name!r}",
        where=where,
        must_be="one of " + ", ".join(sorted(_NAMES)),
        fix=f"did you mean {close[0]!r}?" if close else "see `merging methods`",
    )
