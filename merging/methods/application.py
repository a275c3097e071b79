"""A declared method with its parameter values, applied to float32 blocks: rounds, coefficients, merging."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from merging.algebra.randomness import Place
from merging.errors import ParameterError
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import Method, Reach
from merging.methods.parameters import REQUIRED, Measured
from merging.methods.rounds import Rule, is_needed, reads

# Entries merged at once. With less, passing the interpreter lock between workers costs more than the arithmetic (2^16
# took 1.6 times as long for a linear merge); with more, the buffers fall out of the caches.
BLOCK = 1 << 18
# Entries per measuring block: histograms of 2^15 bins want more entries than merging does.
MEASURING_BLOCK = 1 << 18
# Vector instructions and the scalar code for what they leave over may round differently. Blocks handed to a method end
# in at least this much padding or none, so that no entry's bits depend on where a block was cut.
PADDING = 128


def blocks(start: int, stop: int, size: int = BLOCK) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of `size` entries that cover [start, stop).

    >>> list(blocks(0, 5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    for first in range(start, stop, size):
        yield first, min(first + size, stop)


def padded(entries: int) -> int:
    """The next multiple of PADDING."""
    return -(-entries // PADDING) * PADDING


@dataclass(frozen=True)
class Application:
    """A method with parameter values, for `models` operands whose blocks have `axes` axes after the models axis.

    Per-model values are tuples of length `models`, or one value for all. Missing values are the declared defaults.
    `reach` is that of the tensor at hand; `seed` and `tensor` address random numbers, as does the position `start` of
    a block's first entry.
    """

    method: Method
    values: Mapping[str, Any]
    models: int
    axes: int = 1
    device: str = "cpu"
    reach: Reach | None = None
    tensor: str = ""
    seed: int = 0

    @cached_property
    def rounds(self) -> tuple[Rule, ...]:
        """The measuring rounds these values call for."""
        return self.method.needs.rounds({**self.method.defaults(), **self.values})

    @cached_property
    def rule(self) -> Rule:
        """The function that merges."""
        return self.method.rule(self.reach or self.method.needs.reach)

    def readings(self, measured: dict[str, Tensor]) -> Iterator[Rule]:
        """The rounds that must be read, one after the other; the rest is worked out into `measured` on the way.

        Whoever iterates puts the sum of each round under its name before asking for the next.
        """
        for step in self.rounds:
            if not is_needed(step, measured):
                continue
            if reads(step):
                yield step
            else:
                measured[step.__name__] = self.work_out(step, measured)

    def measure(
        self,
        step: Rule,
        x: Float[Tensor, "models *shape"],
        measured: Measured,
        start: int = 0,
        stands_for: int = 1,
    ) -> Tensor:
        """One block's additive statistics in one round, given the sums of the rounds before.

        Of a sample, every entry of `x` stands for so many of the tensor.
        """
        return step(x, **self._arguments(step, measured, start, stands_for))

    def work_out(self, step: Rule, measured: Measured) -> Tensor:
        """What a round that reads nothing makes of the sums before it."""
        return step(**self._arguments(step, measured))

    def coefficients(self, measured: Measured) -> Float[Tensor, " models"]:
        """What a span method multiplies its operands with; float64, on the cpu."""
        return self.rule(**self._arguments(self.rule, measured)).to("cpu", torch.float64)

    def merge(
        self,
        x: Float[Tensor, "models *shape"],
        measured: Measured,
        start: int = 0,
        companions: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "*shape"]:
        """The merged block."""
        return self.rule(x, **self._arguments(self.rule, measured, start), **(companions or {}))

    def fold(
        self, state: Tensor | None, x: Float[Tensor, "*shape"], position: int, measured: Measured, start: int = 0
    ) -> Float[Tensor, "*shape"]:
        """The state of a sequential method after one more operand, the one at `position`."""
        arguments = self._arguments(self.rule, measured, start)
        for name, knob in self.method.parameters.items():
            if knob.kind.per_model and knob.argument in arguments:
                arguments[knob.argument] = self._per_model(name)[position]
        return self.rule(state, x, **arguments)

    def tally(self, merged: Tensor, measured: Measured) -> Tensor:
        """What a method with a global finish sums over all tensors."""
        assert self.method.needs.finish
        step = self.method.needs.finish[0]
        return step(merged, **self._arguments(step, measured)).to("cpu", torch.float64)

    def finish(self, merged: Tensor, total: Tensor, measured: Measured) -> Tensor:
        """The merged block after the global correction."""
        assert self.method.needs.finish
        step = self.method.needs.finish[1]
        return step(merged, total, **self._arguments(step, measured))

    def _arguments(self, step: Rule, measured: Measured, start: int = 0, stands_for: int = 1) -> dict[str, Any]:
        accepted, fixed = self._prepared(step)
        arguments = dict(fixed)
        if "measured" in accepted:
            arguments["measured"] = measured
        if "random" in accepted:
            arguments["random"] = Place(self.seed, self.tensor, start)
        if "stands_for" in accepted:
            arguments["stands_for"] = stands_for
        return arguments

    def _prepared(self, step: Rule) -> tuple[frozenset[str], dict[str, Any]]:
        known = self._cache.get(step)
        if known is None:
            accepted = frozenset(inspect.signature(step).parameters)
            knobs = self.method.parameters.items()
            # A span rule works on coefficients, all others on entries.
            spans = step is self.rule and (self.reach or self.method.needs.reach) == "span"
            fixed = {knob.argument: self._value(name, spans) for name, knob in knobs if knob.argument in accepted}
            known = self._cache[step] = accepted, fixed
        return known

    @cached_property
    def _cache(self) -> dict[Rule, tuple[frozenset[str], dict[str, Any]]]:
        return {}

    def _value(self, name: str, spans: bool) -> Any:
        knob = self.method.parameters[name]
        if not knob.kind.per_model:
            return self._given(name)
        values = self._per_model(name)
        if spans:
            return torch.tensor(values, dtype=torch.float64)
        shape = (self.models,) + (1,) * self.axes
        dtype = torch.float64 if knob.kind.is_share else torch.float32
        return torch.tensor(values, dtype=dtype, device=self.device).reshape(shape)

    def _per_model(self, name: str) -> list[float]:
        value = self._given(name)
        return list(value) if isinstance(value, tuple | list) else [value] * self.models

    def _given(self, name: str) -> Any:
        value = self.values.get(name, self.method.parameters[name].default)
        if value is REQUIRED:
            raise ParameterError(f"{self.method.name} needs a value for {name}", fix=f"give {name}")
        return value


def columns_of(shape: Sequence[int]) -> int:
    """Entries of a row of the last axis, at least one.

    >>> columns_of((2, 3)), columns_of(()), columns_of((0,))
    (3, 1, 1)
    """
    return max(1, shape[-1] if shape else 1)


def axes_of(reach: Reach, shape: Sequence[int]) -> int:
    """Axes of what a method sees of one operand.

    >>> axes_of("element", (2, 3, 4)), axes_of("row", (2, 3, 4)), axes_of("tensor", (2, 3, 4))
    (1, 2, 3)
    """
    return {"tensor": len(shape), "row": 2, "matrix": 2}.get(reach, 1)


def combine(x: Float[Tensor, "models n"], coefficients: Float[Tensor, " models"], sees: str) -> Float[Tensor, " n"]:
    """Linear combination of operands, measured from the first one when they are models.

    Differences from an anchor are exact or nearly so for fine-tunes of one base, and equal models stay what they are.
    """
    if sees == "task_vectors":
        merged = x[0] * float(coefficients[0])
        for row, coefficient in zip(x[1:], coefficients[1:], strict=True):
            merged.add_(row, alpha=float(coefficient))
        return merged
    merged = x[0] * anchor_scale(coefficients)
    for row, coefficient in zip(x[1:], coefficients[1:], strict=True):
        merged.add_(row - x[0], alpha=float(coefficient))
    return merged


def anchor_scale(coefficients: Float[Tensor, " models"]) -> float:
    """Sum of the coefficients, exactly one when they were normalised to one in float64."""
    total = float(coefficients.sum())
    return 1.0 if abs(total - 1.0) < 1e-12 else total
