"""A declared method applied to float32 blocks: rounds, coefficients, merging; for the engine and `merge_tensor`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from merging.errors import ParameterError, nearest
from merging.lazy import Float, Tensor, torch
from merging.methods.declare import REQUIRED, Measured, Method, Rule, find_method

# Cache blocks: (models + 2) float32 buffers of this many entries stay in a core's second-level cache.
BLOCK = 1 << 16
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
    """

    method: Method
    values: Mapping[str, Any]
    models: int
    axes: int = 1
    device: str = "cpu"

    @cached_property
    def rounds(self) -> tuple[Rule, ...]:
        """The measuring rounds these values call for."""
        return self.method.needs.rounds({**self.method.defaults(), **self.values})

    def measure(self, step: Rule, x: Float[Tensor, "models *shape"], measured: Measured) -> Tensor:
        """One block's additive statistics in one round, given the sums of the rounds before."""
        return step(x, **self._arguments(step, measured))

    def coefficients(self, measured: Measured) -> Float[Tensor, " models"]:
        """What a span method multiplies its operands with; float64, on the cpu."""
        step = self.method.function
        return step(**self._arguments(step, measured)).to("cpu", torch.float64)

    def merge(self, x: Float[Tensor, "models *shape"], measured: Measured) -> Float[Tensor, "*shape"]:
        """The merged block."""
        step = self.method.function
        return step(x, **self._arguments(step, measured))

    def fold(self, state: Tensor | None, x: Float[Tensor, "*shape"], position: int) -> Float[Tensor, "*shape"]:
        """The state of a sequential method after one more operand, the one at `position`."""
        step = self.method.function
        arguments = self._arguments(step, {})
        for name, knob in self.method.parameters.items():
            if knob.kind.per_model and knob.argument in arguments:
                arguments[knob.argument] = self._per_model(name)[position]
        return step(state, x, **arguments)

    def tally(self, merged: Tensor) -> Tensor:
        """What a method with a global finish sums over all tensors."""
        assert self.method.needs.finish
        step = self.method.needs.finish[0]
        return step(merged, **self._arguments(step, {})).to("cpu", torch.float64)

    def finish(self, merged: Tensor, total: Tensor) -> Tensor:
        """The merged block after the global correction."""
        assert self.method.needs.finish
        step = self.method.needs.finish[1]
        return step(merged, total, **self._arguments(step, {}))

    def _arguments(self, step: Rule, measured: Measured) -> dict[str, Any]:
        accepted, fixed = self._prepared(step)
        if "measured" in accepted:
            return {**fixed, "measured": measured}
        return dict(fixed)

    def _prepared(self, step: Rule) -> tuple[frozenset[str], dict[str, Any]]:
        known = self._cache.get(step)
        if known is None:
            accepted = frozenset(inspect.signature(step).parameters)
            knobs = self.method.parameters.items()
            fixed = {knob.argument: self._value(name) for name, knob in knobs if knob.argument in accepted}
            known = self._cache[step] = accepted, fixed
        return known

    @cached_property
    def _cache(self) -> dict[Rule, tuple[frozenset[str], dict[str, Any]]]:
        return {}

    def _value(self, name: str) -> Any:
        knob = self.method.parameters[name]
        if not knob.kind.per_model:
            return self._given(name)
        values = self._per_model(name)
        if self.method.needs.reach == "span":
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


def merge_tensor(
    name: str, models: Tensor | Sequence[Tensor], base: Tensor | None = None, **parameters: Any
) -> Float[Tensor, "*shape"]:
    """One tensor merged in memory by the method `name`: models (models, *shape), base (*shape) -> (*shape).

    Arithmetic in float32, one rounding to the dtype of `models` at the end. A per-model parameter is one value or a
    sequence; `lambda` is spelled `lambda_`. Whole-model statistics are taken over this tensor alone.

    Raises ParameterError for parameters the method does not have or values out of bounds.

    >>> merge_tensor("linear", torch.eye(2), weight=[3, 1])
    tensor([0.7500, 0.2500])
    """
    method = find_method(name)
    stored = models if isinstance(models, torch.Tensor) else torch.stack(list(models))
    if method.needs.sees == "task_vectors" and base is None:
        raise ParameterError(f"{name} merges task vectors and needs a base model", fix="give base=")
    if method.needs.sees == "models" and method.needs.base == "required" and base is not None:
        stored, base = torch.cat([base[None].to(stored.dtype), stored]), None
    values = _checked(method, parameters, len(stored))
    x = stored.detach().to(torch.float32)
    if method.needs.sees == "task_vectors":
        assert base is not None
        x = x - base.detach().to(torch.float32)
    merged = _merge_whole(method, values, x)
    if method.needs.sees == "task_vectors":
        assert base is not None
        merged = base.detach().to(torch.float32) + merged
    return merged.to(stored.dtype)


def _checked(method: Method, parameters: Mapping[str, Any], models: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    smallest, largest = method.needs.inputs
    if models < smallest or (largest is not None and models > largest):
        expected = str(smallest) if smallest == largest else f"{smallest} to {largest or 'any number'}"
        raise ParameterError(f"{method.name} cannot merge {models} models", must_be=expected)
    for argument, value in parameters.items():
        name = argument.rstrip("_")
        if name not in method.parameters:
            close = nearest(name, method.parameters)
            raise ParameterError(
                f"{method.name} has no parameter {name!r}",
                must_be="one of " + ", ".join(method.parameters),
                fix=f"did you mean {close[0]!r}?" if close else None,
            )
        knob = method.parameters[name]
        if knob.kind.per_model and isinstance(value, Sequence | torch.Tensor) and not isinstance(value, str):
            if len(value) != models:
                raise ParameterError(f"{name} has {len(value)} values", must_be=f"one, or one for each of {models}")
            values[name] = tuple(knob.check(float(each)) for each in value)
        else:
            values[name] = knob.check(value)
    return values


def _merge_whole(method: Method, values: Mapping[str, Any], x: Float[Tensor, "models *shape"]) -> Tensor:
    needs = method.needs
    shape = x.shape[1:]
    flat = x.reshape(len(x), -1)
    whole = needs.reach in ("tensor", "row")
    use = Application(method, values, len(x), axes=len(shape) if whole else 1, device=str(x.device))
    measured: dict[str, Tensor] = {}
    for step in use.rounds:
        parts = [use.measure(step, flat[:, a:b], measured) for a, b in blocks(0, flat.shape[1], MEASURING_BLOCK)]
        measured[step.__name__] = sum(parts[1:], start=parts[0])
    if needs.reach == "span":
        return combine(flat, use.coefficients(measured), needs.sees).reshape(shape)
    operands = x if whole else flat
    if needs.order == "sequential":
        merged = use.fold(None, operands[0], 0)
        for position in range(1, len(operands)):
            merged = use.fold(merged, operands[position], position)
    else:
        merged = use.merge(operands, measured)
    if needs.finish:
        merged = use.finish(merged, use.tally(merged))
    return merged.reshape(shape)


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
