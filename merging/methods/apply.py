"""One tensor merged in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

from merging.algebra.windows import sample_weight, sampled_ranges
from merging.errors import ParameterError, nearest
from merging.lazy import Float, Tensor, torch
from merging.methods.application import MEASURING_BLOCK, Application, axes_of, blocks, columns_of, combine
from merging.methods.declare import Method, find_method
from merging.methods.layout import PLAIN, by_matrix
from merging.methods.rounds import Rule, Sum, is_sampled


def merge_tensor(
    name: str,
    models: Tensor | Sequence[Tensor],
    base: Tensor | None = None,
    *,
    companions: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    tensor: str = "",
    **parameters: Any,
) -> Float[Tensor, "*shape"]:
    """One tensor merged in memory by the method `name`: models (models, *shape), base (*shape) -> (*shape).

    Arithmetic in float32, one rounding to the dtype of `models` at the end. A per-model parameter is one value or a
    sequence; `lambda` is spelled `lambda_`. Whole-model statistics are taken over this tensor alone. `companions` are
    the statistics that a method asks for, (models, ...) each; `seed` and `tensor` address random numbers.

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
    method.require(values, len(stored))
    _require_companions(method, companions or {}, stored.shape[1:])
    method = find_method(method.stand_in(values))
    x = stored.detach().to(torch.float32)
    if base is not None and method.needs.base != "unused":
        anchor = base.detach().to(torch.float32)
        x = x - anchor
    else:
        anchor = None
    use = applied(method, values, x.shape, device=str(x.device), tensor=tensor, seed=seed)
    sees = "models" if anchor is None else "task_vectors"
    merged = merge_measured(use, x, measure_whole(use, x), companions, sees)
    return (merged if anchor is None else anchor + merged).to(stored.dtype)


def applied(method: Method, values: Mapping[str, Any], shape: Sequence[int], **facts: Any) -> Application:
    """A method ready for operands of this shape, (models, *shape)."""
    reach = method.reach(shape[1:])
    return Application(method, values, shape[0], axes_of(reach, shape[1:]), reach=reach, **facts)


def _require_companions(method: Method, given: Mapping[str, Tensor], shape: Sequence[int]) -> None:
    """Linear passes need none."""
    if set(given) != set(method.needs.companions) and (given or method.reach(shape) != "span"):
        wanted = ", ".join(method.needs.companions) or "none"
        raise ParameterError(
            f"{method.name} cannot merge with the companions {', '.join(given) or '(none)'}",
            must_be=wanted,
            fix="give companions={name: (models, ...)}",
        )


def _checked(method: Method, parameters: Mapping[str, Any], models: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    smallest, largest = method.needs.inputs
    if models < smallest or (largest is not None and models > largest):
        expected = str(smallest) if smallest == largest else f"{smallest} to {largest or 'any number'}"
        fix = "give more" if models < smallest else "leave some out, or take a method of more models"
        raise ParameterError(f"{method.name} cannot merge {models} models", must_be=expected, fix=fix)
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


def measure_whole(use: Application, x: Float[Tensor, "models *shape"]) -> dict[str, Tensor]:
    """The sums of all measuring rounds over one tensor."""
    return measure_together(use, [x])


def measure_together(use: Application, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """The sums of all measuring rounds over several tensors."""
    measured: dict[str, Tensor] = {}
    for step in use.readings(measured):
        total = Sum(step)
        for x in tensors:
            for part in _measured(use, step, x, measured):
                total.add(part)
        measured[step.__name__] = total.total()
    return measured


def _measured(use: Application, step: Rule, x: Tensor, measured: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """What one round makes of a tensor, block by block."""
    flat = x.reshape(len(x), -1)
    entries = flat.shape[1]
    if is_sampled(step):
        sample = torch.cat([flat[:, a:b] for a, b in sampled_ranges(entries)], 1)
        yield use.measure(step, sample, measured, 0, sample_weight(entries))
        return
    unit = (columns_of(x.shape[1:]),) if use.reach == "row" else ()
    step_entries = max(MEASURING_BLOCK // prod(unit), 1) * prod(unit)
    for a, b in list(blocks(0, entries, step_entries)) or [(0, 0)]:
        yield use.measure(step, flat[:, a:b].reshape(len(x), (b - a) // prod(unit), *unit), measured, a)


def merge_measured(
    use: Application,
    x: Float[Tensor, "models *shape"],
    measured: Mapping[str, Tensor],
    companions: Mapping[str, Tensor] | None = None,
    sees: str | None = None,
) -> Float[Tensor, "*shape"]:
    """One tensor merged after its rounds; `sees` is what the operands are, as declared when None."""
    needs, shape = use.method.needs, x.shape[1:]
    flat = x.reshape(len(x), -1)
    if use.reach == "span":
        merged = combine(flat, use.coefficients(measured), sees or needs.sees)
    elif needs.order == "sequential":
        merged = _folded(use, x, measured)
    elif use.reach == "matrix":
        merged = by_matrix(lambda matrices: use.merge(matrices, measured, 0, companions), shape, PLAIN, flat)
    else:
        beside = {name: each.reshape(len(x), -1) for name, each in (companions or {}).items()}
        columns = columns_of(shape)
        rows = x.reshape(len(x), flat.shape[1] // columns, columns) if use.reach == "row" else x
        merged = use.merge(flat if use.reach == "element" else rows, measured, 0, beside)
    if needs.finish:
        merged = use.finish(merged, use.tally(merged, measured), measured)
    return merged.reshape(shape)


def _folded(use: Application, x: Float[Tensor, "models *shape"], measured: Mapping[str, Tensor]) -> Tensor:
    state: Tensor | None = None
    for position, operand in enumerate(x):
        if use.reach == "matrix":
            fold = partial(use.fold, position=position, measured=measured)
            state = by_matrix(fold, operand.shape, PLAIN, state, operand.reshape(-1))
        else:
            state = use.fold(state, operand if use.reach == "tensor" else operand.reshape(-1), position, measured)
    assert state is not None
    return state
