"""Parameter values per tensor: filters, gradients over the layers, and which block of the recipe beats which.

For one tensor and one parameter the first matching setting wins, looking first at the model's own block, then the
slice's, then the recipe's, then at the method's default. A block whose filters all miss is passed over. A parameter
that is shared by all models is never looked for in a model's block; there it is refused instead.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from merging.errors import ParameterError
from merging.methods.declare import Method
from merging.methods.parameters import REQUIRED, Parameter
from merging.recipe.recipe import KeyPath, ModelEntry, Parameters, Recipe, SliceSource

Value: TypeAlias = float | int | bool | str | tuple[float, ...]


def interpolate(values: Sequence[float], fraction: float) -> float:
    """The value at `fraction` of a line through `values`, which stand at equal distances from 0 to 1.

    Never outside the two neighbours, and exactly a neighbour where it stands.

    >>> interpolate((0.0, 1.0, 0.0), 0.25), interpolate((0.1, 0.7), 1.0)
    (0.5, 0.7)
    """
    position = fraction * (len(values) - 1)
    i = int(position)
    if i >= len(values) - 1:
        return values[-1]
    left, right = values[i], values[i + 1]
    between = left + (right - left) * (position - i)
    return min(max(between, min(left, right)), max(left, right))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A setting with its values checked; several are the points of a gradient."""

    values: tuple[Any, ...]
    filter: str | None = None

    def at(self, fraction: float, parameter: Parameter) -> Any:
        if len(self.values) == 1:
            return self.values[0]
        if parameter.kind.type in ("flag", "choice"):
            return self.values[int(fraction * (len(self.values) - 1))]
        between = interpolate(self.values, fraction)
        return round(between) if parameter.kind.type == "count" else between


@dataclass(frozen=True, slots=True)
class _Chain:
    """All settings that may decide one parameter (of one operand), strongest first."""

    parameter: Parameter
    candidates: tuple[_Candidate, ...]
    operand: str | None
    path: KeyPath

    def choose(self, tensor: str) -> int:
        """Position of the deciding candidate; -1 where every filter misses."""
        for i, candidate in enumerate(self.candidates):
            if candidate.filter is None or candidate.filter in tensor:
                return i
        return -1

    @property
    def filtered(self) -> bool:
        return not self.candidates or self.candidates[0].filter is not None

    @property
    def layered(self) -> bool:
        return any(len(candidate.values) > 1 for candidate in self.candidates)


class _Arrangement:
    """The chains of all parameters for one list of operands, and the values found so far."""

    def __init__(self, chains: Sequence[Sequence[_Chain]]):
        self.chains = chains
        self.filtered = [chain for row in chains for chain in row if chain.filtered]
        self.layered = any(chain.layered for row in chains for chain in row)
        self.found: dict[Hashable, dict[str, Value]] = {}


class Settings:
    """A recipe's parameter values for a method, tensor by tensor; remembers what it has worked out.

    Raises ParameterError for a value that the method refuses; `check_parameters` reports all of them at once.
    """

    def __init__(self, recipe: Recipe, method: Method):
        self._recipe = recipe
        self._method = method
        self._arrangements: dict[Hashable, _Arrangement] = {}

    def at(
        self, *, tensor: str, fraction: float, slice_index: int | None = None, operands: Sequence[str]
    ) -> dict[str, Value]:
        """The value of every parameter for an output tensor; equal values are one object, not to be written to.

        `fraction` is how far the tensor's layer is through its model or slice, 0 outside the layers. `operands` are
        sources in the method's order; a source that stands twice takes its entries in the recipe's order. Per-model
        values are tuples aligned with them.
        """
        key = (slice_index, tuple(operands))
        arrangement = self._arrangements.get(key)
        if arrangement is None:
            arrangement = self._arrangements[key] = self._arrange(slice_index, operands)
        choices = tuple([chain.choose(tensor) for chain in arrangement.filtered])
        where = (choices, fraction if arrangement.layered else 0.0)
        values = arrangement.found.get(where)
        if values is None:
            values = arrangement.found[where] = self._values(arrangement, tensor, fraction)
        return values

    def _values(self, arrangement: _Arrangement, tensor: str, fraction: float) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for parameter, row in zip(self._method.parameters.values(), arrangement.chains, strict=True):
            found = []
            for chain in row:
                choice = chain.choose(tensor)
                if choice < 0:
                    raise _no_value(self._recipe, self._method, chain, tensor)
                found.append(chain.candidates[choice].at(fraction, parameter))
            values[parameter.name] = tuple(found) if parameter.kind.per_model else found[0]
        return values

    def _arrange(self, slice_index: int | None, operands: Sequence[str]) -> _Arrangement:
        entries, shared = scope(self._recipe, slice_index)
        left = list(entries)
        own: list[tuple[str, KeyPath, Parameters]] = []
        for operand in operands:
            first = next((i for i, (_, entry) in enumerate(left) if entry.source == operand), None)
            path, block = ((), {}) if first is None else _own_block(left.pop(first))
            own.append((operand, path, block))
        return _Arrangement(
            [
                [self._chain(parameter, [(path, block), *shared], operand) for operand, path, block in own]
                if parameter.kind.per_model
                else [self._chain(parameter, shared, None)]
                for parameter in self._method.parameters.values()
            ]
        )

    def _chain(self, parameter: Parameter, blocks: Sequence[tuple[KeyPath, Parameters]], operand: str | None) -> _Chain:
        candidates: list[_Candidate] = []
        for path, block in blocks:
            for i, setting in enumerate(block.get(parameter.name, ())):
                values = setting.value if isinstance(setting.value, tuple) else (setting.value,)
                spot = (*path, parameter.name)
                checked = tuple(
                    parameter.check(value, where_setting(self._recipe, spot, i, "value", j))
                    for j, value in enumerate(values)
                )
                candidates.append(_Candidate(checked, setting.filter))
        if parameter.default is not REQUIRED:
            candidates.append(_Candidate((parameter.default,)))
        return _Chain(parameter, tuple(candidates), operand, blocks[0][0])


def _own_block(entry: tuple[KeyPath, ModelEntry | SliceSource]) -> tuple[KeyPath, Parameters]:
    return (*entry[0], "parameters"), entry[1].parameters


def scope(
    recipe: Recipe, slice_index: int | None
) -> tuple[list[tuple[KeyPath, ModelEntry | SliceSource]], list[tuple[KeyPath, Parameters]]]:
    """The models, or the sources of a slice, with their paths, and the blocks that hold for all, strongest first."""
    top: tuple[KeyPath, Parameters] = (("parameters",), recipe.parameters)
    if slice_index is None:
        return [(("models", i), entry) for i, entry in enumerate(recipe.models)], [top]
    piece = recipe.slices[slice_index]
    path: KeyPath = ("slices", slice_index)
    sources: list[tuple[KeyPath, ModelEntry | SliceSource]] = [
        ((*path, "sources", k), source) for k, source in enumerate(piece.sources)
    ]
    return sources, [((*path, "parameters"), piece.parameters), top]


def where_setting(recipe: Recipe, path: KeyPath, i: int, *inner: str | int) -> str:
    """The place of ("filter",) or ("value", j) in setting `i` of the parameter at `path`, however the text puts it."""
    if (*path, i, "value") in recipe.places:
        return recipe.where(*path, i, *inner)
    return recipe.where(*path, *(inner if (*path, "value") in recipe.places else inner[1:]))


def _no_value(recipe: Recipe, method: Method, chain: _Chain, tensor: str) -> ParameterError:
    name, subject = chain.parameter.name, f" for {chain.operand}" if chain.operand else ""
    if chain.candidates:
        return ParameterError(
            f"no setting of {name!r}{subject} matches the tensor {tensor}",
            where=recipe.where(*chain.path, name),
            must_be=f"a value for every tensor: {method.name} has no default for {name!r}",
            fix="add a last condition without `filter:`",
        )
    return missing_value(recipe, method, chain.parameter, chain.operand, chain.path)


def missing_value(
    recipe: Recipe, method: Method, parameter: Parameter, operand: str | None, path: KeyPath
) -> ParameterError:
    """The error for a parameter without a default that nothing sets."""
    subject = f" for {operand}" if operand else ""
    block = "its `parameters:`, or to the recipe's `parameters:` for all models" if operand else "`parameters:`"
    return ParameterError(
        f"{method.name} needs {parameter.name!r}{subject}",
        where=recipe.where(*path[:-1]),
        must_be=parameter.kind.describe(),
        fix=f"add `{parameter.name}: …` to {block}",
    )


def resolve(
    recipe: Recipe,
    method: Method,
    *,
    tensor: str,
    fraction: float,
    slice_index: int | None = None,
    operands: Sequence[str],
) -> dict[str, Value]:
    """`Settings.at` for a single tensor; for many tensors make one `Settings`."""
    return Settings(recipe, method).at(tensor=tensor, fraction=fraction, slice_index=slice_index, operands=operands)
