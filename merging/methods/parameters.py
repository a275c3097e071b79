"""Parameters of merge methods: their kinds and bounds, and the checking of values."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from merging.errors import ParameterError

if TYPE_CHECKING:
    from merging.lazy import Tensor


@dataclass(frozen=True)
class Kind:
    """Bounds and scope of a parameter. A per-model parameter may differ from model to model.

    `key` is what recipes call it where another tool's name is not ours; else the argument's name. `example` is what an
    example says where the default, another tool's, would not show what the parameter is for.
    """

    type: Literal["number", "count", "flag", "choice"]
    per_model: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    key: str = ""
    example: float | str | None = None

    @property
    def is_share(self) -> bool:
        """Whether a value is a fraction of a whole."""
        return self.type == "number" and (self.minimum, self.maximum) == (0, 1)

    def shown_as(self, value: float | str) -> Kind:
        """This kind with another value in examples than the default."""
        return replace(self, example=value)

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
SHARE_OF_EACH = Kind("number", per_model=True, minimum=0.0, maximum=1.0)
PerModelShare: TypeAlias = Annotated[Any, SHARE_OF_EACH]
Number: TypeAlias = Annotated[float, Kind("number")]
NonNegative: TypeAlias = Annotated[float, Kind("number", minimum=0.0)]
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
            shown = "" if kind.example is None else f", as {kind.example}"
            hint = "" if self.default is REQUIRED else f", or delete the line for {self.default!r}"
            fix = f"write such a value{shown}{hint}"
            raise ParameterError(f"{self.name} cannot be {value!r}", where=where, must_be=kind.describe(), fix=fix)
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
