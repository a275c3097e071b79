"""Any declared method made ready for a law: operands, values inside the bounds, companions, measured rounds."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st

from merging.errors import ParameterError
from merging.methods.application import Application
from merging.methods.apply import applied, measure_whole, merge_measured
from merging.methods.declare import Method, Rule, all_methods, reads
from merging.methods.rounds import Sum

METHODS = all_methods()
# Values at which a method named in the field's words neither trims nor scales.
NEUTRAL = {"density": 1.0, "gamma": 0.0, "scale": 1.0, "lambda": 1.0, "normalize": True, "aggregate": "mean"}


def declared(**facts: object) -> list[str]:
    """Names of the methods that state these facts."""
    return [name for name, method in METHODS.items() if all(getattr(method.needs, k) == v for k, v in facts.items())]


def operands(method: Method, models: int, *shape: int, seed: int = 0) -> torch.Tensor:
    """Float32 operands as the engine makes them of bfloat16 fine-tunes of one base."""
    generator = torch.Generator().manual_seed(seed)
    base = (torch.randn(shape, generator=generator) * 0.02).bfloat16().float()
    changes = torch.randn(models, *shape, generator=generator) * 0.002
    tuned = (base + changes).bfloat16().float()
    return tuned - base if method.needs.sees == "task_vectors" else tuned


def number(method: Method, wanted: int) -> int:
    """The nearest number of operands the method takes."""
    least, most = method.needs.inputs
    return max(least, min(wanted, most or wanted))


def draw_values(data: st.DataObject, method: Method, models: int) -> dict[str, object]:
    """A value inside the bounds of every parameter; numbers are coefficients of ordinary size.

    Where values must go together, shares are the same for all models, and what the method refuses is drawn again.
    """
    values: dict[str, object] = {}
    for name, knob in method.parameters.items():
        open_ended = knob.kind.maximum is None and knob.kind.minimum in (None, 0)
        low = 0.25 if open_ended and knob.kind.type == "number" else knob.kind.minimum or 0
        high = low + 1.5 if knob.kind.maximum is None else knob.kind.maximum
        match knob.kind.type:
            case "flag":
                strategy = st.booleans()
            case "choice":
                strategy = st.sampled_from(knob.kind.choices)
            case "count":
                strategy = st.integers(int(low), int(low) + 4)
            case _:
                strategy = st.floats(low, high, width=16)
        several = knob.kind.per_model and not (method.needs.refuses and knob.kind.is_share)
        values[name] = data.draw(st.tuples(*[strategy] * models) if several else strategy, label=name)
    try:
        method.require(values, models)
    except ParameterError:
        assume(False)
    return values


@dataclass(frozen=True)
class Case:
    """A method ready to be applied to operands that were measured whole."""

    use: Application
    x: torch.Tensor
    measured: dict[str, torch.Tensor]
    companions: dict[str, torch.Tensor]

    def merge(self) -> torch.Tensor:
        """The operands merged whole."""
        return merge_measured(self.use, self.x, self.measured, self.companions)

    def block(self, x: torch.Tensor, start: int = 0) -> torch.Tensor:
        """A block as the engine cuts it merged, whose first entry stands at `start`."""
        flat = {name: each.reshape(len(x), -1) for name, each in self.companions.items()}
        entries = x[0].numel()
        beside = {name: torch.nn.functional.pad(each, (0, entries), value=1.0) for name, each in flat.items()}
        cut = {name: each[:, start : start + entries].reshape(x.shape) for name, each in beside.items()}
        return self.use.merge(x, self.measured, start, cut)


def readings(case: Case) -> list[Rule]:
    """The rounds that read, of those that were taken."""
    return [step for step in case.use.rounds if reads(step) and step.__name__ in case.measured]


def settled(step: Rule, total: torch.Tensor) -> torch.Tensor:
    """A round's sum in the one form that equal sums have."""
    held = Sum(step)
    held.add(total)
    return held.settled()


def companions(method: Method, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Statistics as methods ask for them: a positive number per entry, or an inner-product matrix per linear layer.

    They belong to their model, and do not change where all entries are scaled.
    """
    if not method.needs.companions or method.reach(x.shape[1:]) == "span":
        return {}
    flat = x.reshape(len(x), -1)
    sized = flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-30)
    if method.needs.reach == "matrix":
        matrices = sized.reshape(len(x), x.shape[1], -1)
        identity = torch.eye(matrices.shape[2])
        return dict.fromkeys(method.needs.companions, matrices.mT @ matrices + 0.1 * identity)
    return dict.fromkeys(method.needs.companions, (sized.abs() + 0.1).reshape(x.shape))


def case(method: Method, values: dict[str, object], x: torch.Tensor) -> Case:
    use = applied(method, values, x.shape, tensor="w")
    return Case(use, x, measure_whole(use, x), companions(method, x))


def drawn_case(name: str, data: st.DataObject, *shape: int, models: int = 3) -> Case:
    method = METHODS[name]
    models = number(method, models)
    return case(method, draw_values(data, method, models), operands(method, models, *shape))


def square(method: Method) -> tuple[int, ...]:
    """A shape of about 200 entries: rows or a matrix for a method of these, a square where either side may be asked."""
    if method.needs.reach not in ("row", "matrix"):
        return (200,)
    return (14, 14) if method.needs.companions else (10, 20)


def says(method: Method, words: str) -> None:
    """Skip a law that the method's own docstring says it does not obey."""
    if words in method.theorem.replace("\n", " "):
        pytest.skip(f"{method.name}: {words}")
