"""Methods declared by hand, so that recipes can be checked against methods that nobody else depends on."""

from __future__ import annotations

from typing import Any, Literal

from merging.methods.declare import Method, Needs
from merging.methods.parameters import REQUIRED, Kind, Parameter


def knob(name: str, kind: Kind, default: Any = REQUIRED) -> Parameter:
    """A parameter of the same name in recipe and function."""
    return Parameter(name, name, kind, default, "")


def _rule(models: Any) -> Any:
    return models[0]


def method(
    *knobs: Parameter,
    sees: Literal["models", "task_vectors"] = "task_vectors",
    base: Literal["required", "optional", "unused"] = "required",
) -> Method:
    """A method called `toy` with these parameters."""
    needs = Needs(sees=sees, reach="element", base=base)
    return Method("toy", "", needs, _rule, (), {each.name: each for each in knobs})


WEIGHT = knob("weight", Kind("number", per_model=True))
SHARE = knob("density", Kind("number", per_model=True, minimum=0, maximum=1), 1.0)
T = knob("t", Kind("number"))
FLAG = knob("normalize", Kind("flag"), True)
COUNT = knob("steps", Kind("count", minimum=1), 10)
CHOICE = knob("mode", Kind("choice", choices=("fast", "exact")), "fast")
