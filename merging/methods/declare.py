"""What a merge method declares, and how methods are found.

A method is a function of tensors with keyword parameters. Its declaration states facts; planning reads only the facts,
the engine acts on them, and the laws in tests/laws hold every method to them.

What the function is given and returns depends on `reach`:

span     keyword parameters only -> (models,) coefficients c; the engine computes  anchor + sum c_i (x_i - anchor)
         in one linear pass, plus (sum c - 1) anchor when it sees models. The anchor is the base model when the method
         sees task vectors, else the first operand.
element  (models, *any) float32 -> (*any) float32; any cut of the entries may arrive
row      (models, rows, columns) -> (rows, columns); whole last-axis rows; a tensor of one axis is one row
tensor   (models, *shape) -> (*shape); the whole tensor

A method that sees "task_vectors" is given fine-tuned minus base and its result is added to the base model.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar, get_args, get_origin

from merging.errors import ParameterError, RecipeError, nearest

if TYPE_CHECKING:
    from merging.lazy import Tensor

Rule: TypeAlias = Callable[..., "Tensor"]
Rule_ = TypeVar("Rule_", bound=Callable[..., Any])


@dataclass(frozen=True)
class Kind:
    """Bounds and scope of a parameter. A per-model parameter may differ from model to model."""

    type: Literal["number", "count", "flag", "choice"]
    per_model: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def is_share(self) -> bool:
        """Whether a value is a fraction of a whole."""
        return self.type == "number" and (self.minimum, self.maximum) == (0, 1)

    def describe(self) -> str:
        """What a value must be, as an error says it."""
        match self.type:
            case "flag":
                return "true or false"
            case "choice":
                return "one of " + ", ".join(self.choices)
            case _:
                noun = "a whole number" if self.type == "count" else "a number"
                if self.minimum is not None and self.maximum is not None:
                    return f"{noun} in [{self.minimum:g}, {self.maximum:g}]"
                return f"{noun} of at least {self.minimum:g}" if self.minimum is not None else noun


# At run time a per-model value is a float64 tensor of shape (models,) for span methods and a float32 tensor of shape
# (models, 1, ..., 1) for all others, but float64 for a share: int(0.7 * 10) entries are 7, and 6 after rounding to
# float32. A shared value is a plain float, int, bool or str.
PerModel: TypeAlias = Annotated[Any, Kind("number", per_model=True)]
PerModelShare: TypeAlias = Annotated[Any, Kind("number", per_model=True, minimum=0.0, maximum=1.0)]
Number: TypeAlias = Annotated[float, Kind("number")]
Share: TypeAlias = Annotated[float, Kind("number", minimum=0.0, maximum=1.0)]
Count: TypeAlias = Annotated[int, Kind("count", minimum=1)]
Flag: TypeAlias = Annotated[bool, Kind("flag")]
# A parameter that other tools' recipes carry and that has no effect on any result.
Unused: TypeAlias = Annotated[Any, Kind("flag")]
Measured: TypeAlias = Mapping[str, "Tensor"]

REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Parameter:
    """One knob of a method, from the signature: recipe key, bounds, default (REQUIRED where there is none)."""

    name: str
    argument: str
    kind: Kind
    default: Any
    says: str

    def check(self, value: object, where: str | None = None) -> float | int | bool | str:
        """The value in its own type. Raises ParameterError when it is of the wrong kind or out of bounds."""
        kind = self.kind
        good: Any = None
        if kind.type == "flag":
            # Published recipes write `normalize: 1.0`.
            good = bool(value) if isinstance(value, bool) or value in (0, 1) else None
        elif kind.type == "choice":
            good = value if value in kind.choices else None
        elif not isinstance(value, bool):
            good = _number(value)
            if good is not None and kind.type == "count":
                good = int(good) if good == int(good) else None
        inside = good is not None and (
            kind.type in ("flag", "choice")
            or ((kind.minimum is None or good >= kind.minimum) and (kind.maximum is None or good <= kind.maximum))
        )
        if not inside:
            hint = "" if self.default is REQUIRED else f"write such a value, or delete the line for {self.default!r}"
            raise ParameterError(
                f"{self.name} cannot be {value!r}", where=where, must_be=kind.describe(), fix=hint or None
            )
        result: float | int | bool | str = good
        return result


def _number(value: object) -> float | None:
    if not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


@dataclass(frozen=True)
class only_if:
    """A measuring round that is taken only where a parameter has an effect: a flag is true, a share is below 1."""

    parameter: str
    round: Rule

    def is_taken(self, value: Any) -> bool:
        """Whether this value of the parameter, of one model or of each, calls for the round."""
        if isinstance(value, bool):
            return value
        return any(each < 1 for each in value) if isinstance(value, tuple | list) else value < 1


@dataclass(frozen=True)
class Needs:
    """The facts that planning and the engine act on; every one is a law in tests/laws.

    base      required: the method is about a base model; optional: it uses one if given; unused: a base model is an
              input like any other.
    inputs    smallest and largest number of operands: all models it sees, the base model included only when the method
              sees models and requires one (then it is the first operand).
    measure   rounds of additive statistics over the operands, each (models, n) float32 -> tensor; they are summed over
              the tensor ("tensor") or over all merged tensors of the model ("model") and handed on as `measured`.
    finish    (tally, apply): tally(merged) -> tensor adds up over all tensors; apply(merged, total) is elementwise.
    elsewhere name of the method for tensors that are not matrices; None: this one handles all.
    """

    sees: Literal["models", "task_vectors"]
    reach: Literal["span", "element", "row", "tensor"]
    base: Literal["required", "optional", "unused"] = "required"
    inputs: tuple[int, int | None] = (1, None)
    order: Literal["together", "sequential"] = "together"
    measure: tuple[Rule | only_if, ...] = ()
    scope: Literal["tensor", "model"] = "tensor"
    finish: tuple[Rule, Rule] | None = None
    elsewhere: str | None = None
    companions: tuple[str, ...] = ()

    def rounds(self, parameters: Mapping[str, Any]) -> tuple[Rule, ...]:
        """The measuring rounds that these parameter values call for, in order."""
        rounds = (
            (step.round if step.is_taken(parameters[step.parameter]) else None) if isinstance(step, only_if) else step
            for step in self.measure
        )
        return tuple(step for step in rounds if step is not None)


@dataclass(frozen=True)
class Method:
    """A declared method: its name, its mathematics and its facts."""

    name: str
    paper: str
    needs: Needs
    function: Rule
    aliases: tuple[str, ...] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

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
        for known in (name, *aliases):
            if _NAMES.setdefault(known, name) != name:
                raise ValueError(f"two methods are called {known!r}")
        _METHODS[name] = Method(name, paper, facts, function, aliases, _parameters(function, facts))
        return function

    return declare


def _parameters(function: Callable[..., Any], needs: Needs) -> dict[str, Parameter]:
    """Keyword parameters of a method and of its rounds; a round repeats a parameter without a default."""
    rounds = [step.round if isinstance(step, only_if) else step for step in needs.measure]
    found: dict[str, Parameter] = {}
    for step in (function, *rounds, *(needs.finish or ())):
        for argument in inspect.signature(step).parameters.values():
            kind = _kind(step, argument)
            name = argument.name.rstrip("_")
            if kind is not None and name not in found:
                says = _explained(function, name)
                found[name] = Parameter(name, argument.name, kind, argument.default, says)
    return found


def _kind(step: Callable[..., Any], argument: inspect.Parameter) -> Kind | None:
    if argument.kind is not inspect.Parameter.KEYWORD_ONLY or argument.name == "measured":
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
