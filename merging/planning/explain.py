"""A plan as a table: its passes, their bytes, and what every tensor gets; as data first, as text on request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from merging.families.files import spelled
from merging.methods.declare import find_method
from merging.planning.choose import Choice, choose, fitting_workers, total
from merging.planning.plan import Job, Plan, Value
from merging.planning.remote import fetched_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class PassRow:
    """One walk over tensors: what is done, over how many, and the bytes it moves."""

    what: str
    tensors: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class Row:
    """Tensors that get the same. Numbers in `name` that differ among them are written `#`.

    `layers` is the first and last layer; a parameter that changes over the group is spelled "first … last". `told` are
    the parameters that are not at their defaults everywhere.
    """

    name: str
    tensors: int
    layers: tuple[int, int] | None
    role: str
    shape: tuple[int, ...]
    dtype: str
    treatment: str
    execution: str
    inputs: tuple[str, ...]
    base: str | None
    parameters: Mapping[str, str]
    told: tuple[str, ...]
    nbytes: int
    held_bytes: int
    note: str


@dataclass(frozen=True)
class Explanation:
    """What a plan will do."""

    method: str
    summary: str
    models: tuple[str, ...]
    passes: tuple[PassRow, ...]
    rows: tuple[Row, ...]
    read_bytes: int
    written_bytes: int
    spooled_bytes: int
    memory_bytes: int
    workers: int
    device: str
    warnings: tuple[str, ...]
    fetched_bytes: int = 0

    def data(self) -> dict[str, Any]:
        """The explanation as JSON data."""
        return asdict(self)


def explain(plan: Plan, *, workers: int | None = None) -> Explanation:
    """What the plan will do, in groups of tensors that get the same."""
    choices = [choose(job, plan.models) for job in plan.jobs]
    workers = fitting_workers(choices, plan.memory, workers)
    cost = total(choices, plan.memory, workers)
    method = find_method(str(plan.recipe.get("merge_method")))
    return Explanation(
        method=method.name,
        summary=method.summary,
        models=_names(plan),
        passes=tuple(_passes(plan, choices)),
        rows=tuple(_rows(plan, choices)),
        read_bytes=cost.read_bytes,
        written_bytes=cost.written_bytes,
        spooled_bytes=cost.spooled_bytes,
        memory_bytes=cost.memory_bytes,
        workers=workers,
        device=plan.device,
        warnings=plan.warnings,
        fetched_bytes=fetched_bytes(plan, choices),
    )


def _names(plan: Plan) -> tuple[str, ...]:
    """The models as the recipe calls them."""
    return plan.sources or tuple(model.location for model in plan.models)


def _passes(plan: Plan, choices: Sequence[Choice]) -> Iterable[PassRow]:
    """Rounds over the whole model are passes of their own; rounds over a tensor belong to the merging pass."""
    merging_bytes = 0
    whole: dict[str, tuple[int, int]] = {}
    for job, choice in zip(plan.jobs, choices, strict=True):
        merging_bytes += _once(plan, job)
        if not job.method or find_method(job.method).needs.scope == "tensor":
            merging_bytes += sum(choice.round_bytes)
        elif job.counted:
            for name, read in zip(choice.rounds, choice.round_bytes, strict=True):
                tensors, nbytes = whole.get(name, (0, 0))
                whole[name] = (tensors + 1, nbytes + read)
    for name, (tensors, nbytes) in whole.items():
        yield PassRow(f"measure {name.replace('_', ' ')}", tensors, nbytes, 0)
    spooled = [(job, choice) for job, choice in zip(plan.jobs, choices, strict=True) if choice.spooled_bytes]
    directly = sum(choice.written_bytes for choice in choices if not choice.spooled_bytes)
    waiting = sum(choice.spooled_bytes for _, choice in spooled)
    yield PassRow("merge", len(plan.jobs), merging_bytes, directly + waiting)
    if spooled:
        base = sum(plan.models[job.base.model].specs[job.base.name].nbytes for job, _ in spooled if job.base)
        yield PassRow("finish", len(spooled), waiting + base, sum(choice.written_bytes for _, choice in spooled))


def _once(plan: Plan, job: Job) -> int:
    return sum(plan.models[each.model].specs[each.name].nbytes for each in job.sources)


def _rows(plan: Plan, choices: Sequence[Choice]) -> Iterable[Row]:
    groups: dict[tuple[object, ...], list[tuple[Job, Choice]]] = {}
    for job, choice in zip(plan.jobs, choices, strict=True):
        models = tuple(operand.model for operand in job.operands)
        key = (spelled(job.spec.name), job.spec.shape, job.spec.dtype, job.rule, job.method)
        groups.setdefault((*key, models, choice.kind, choice.rounds, job.note), []).append((job, choice))
    for members in groups.values():
        yield _row(plan, [job for job, _ in members], [choice for _, choice in members])


def _row(plan: Plan, jobs: Sequence[Job], choices: Sequence[Choice]) -> Row:
    # Files list layers as text: 0, 1, 10, 11, 2.
    jobs = sorted(jobs, key=lambda job: -1 if job.layer is None else job.layer)
    first, names = jobs[0], _names(plan)
    layers = [job.layer for job in jobs if job.layer is not None]
    return Row(
        name=_joint_name([job.spec.name for job in jobs]),
        tensors=len(jobs),
        layers=(min(layers), max(layers)) if layers else None,
        role=first.role,
        shape=first.spec.shape,
        dtype=first.spec.dtype,
        treatment=first.method or first.rule,
        execution=choices[0].label,
        inputs=tuple(names[operand.model] for operand in first.operands),
        base=names[first.base.model] if first.base else None,
        parameters={name: _joint_value([job.parameters[name] for job in jobs]) for name in first.parameters},
        told=tuple(name for name in first.parameters if any(not _is_default(job, name) for job in jobs)),
        nbytes=sum(job.spec.nbytes for job in jobs),
        held_bytes=max(choice.held_bytes for choice in choices),
        note=first.note,
    )


def _is_default(job: Job, name: str) -> bool:
    default = find_method(job.method).defaults().get(name)
    value = job.parameters[name]
    return set(value) <= {default} if isinstance(value, tuple) else value == default


def _joint_name(names: Sequence[str]) -> str:
    """The names' pattern; a number that is the same in all of them stays."""
    columns = zip(*(name.split(".") for name in names), strict=True)
    return ".".join(column[0] if len(set(column)) == 1 else "#" for column in columns)


def _joint_value(values: Sequence[Value]) -> str:
    """One value, or the first and the last of a gradient; "between" where the way there is not straight up or down."""
    shown = list(dict.fromkeys(_spelled(value) for value in values))
    if len(shown) == 1:
        return shown[0]
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) == len(values) and numbers not in (sorted(numbers), sorted(numbers, reverse=True)):
        return f"between {min(numbers):g} and {max(numbers):g}"
    return f"{_spelled(values[0])} … {_spelled(values[-1])}"


def _spelled(value: Value) -> str:
    if isinstance(value, tuple):
        shown = [_spelled(each) for each in value]
        return shown[0] if len(set(shown)) == 1 else "[" + ", ".join(shown) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def readable(nbytes: float) -> str:
    """A number of bytes in decimal units.

    >>> readable(2_203_000_000), readable(512)
    ('2.2 GB', '512 B')
    """
    power = min(4, (len(str(int(nbytes))) - 1) // 3)
    return f"{nbytes / 1000**power:.3g} {('B', 'KB', 'MB', 'GB', 'TB')[power]}"


def headlines(explanation: Explanation) -> list[str]:
    """The explanation's totals as lines of text."""
    lines = [
        f"{explanation.method}: {explanation.summary}",
        f"reads {readable(explanation.read_bytes)} of {len(explanation.models)} models, "
        f"writes {readable(explanation.written_bytes)}, "
        f"buffers of {readable(explanation.memory_bytes)} for {explanation.workers} workers on {explanation.device}",
    ]
    if explanation.fetched_bytes:
        lines.append(f"gets {readable(explanation.fetched_bytes)} from the Hub")
    if explanation.spooled_bytes:
        lines.append(f"keeps {readable(explanation.spooled_bytes)} on disk until the finish")
    for number, each in enumerate(explanation.passes, start=1):
        moved = f"reads {readable(each.read_bytes)}, writes {readable(each.written_bytes)}"
        lines.append(f"pass {number}: {each.what}, {each.tensors} tensors, {moved}")
    return lines


def treatment(row: Row) -> str:
    """What a group of tensors gets: method, inputs, execution, the parameters that were set, why."""
    used = row.inputs if row.treatment != "copy" else row.inputs[:1]
    of = ", ".join(used) + (f" on {row.base}" if row.base else "")
    how = f"by {row.execution}" if row.execution != row.treatment else ""
    if "whole tensor" in how:
        how += f", up to {readable(row.held_bytes)} in memory"
    parameters = ", ".join(f"{name} {row.parameters[name]}" for name in row.told)
    return "; ".join(said for said in (f"{row.treatment} of {of}", how, parameters, row.note) if said)


def cells(row: Row) -> tuple[str, str, str, str]:
    """A line of the table: tensor, how many, which layers, dtype and shape."""
    layers = "" if row.layers is None else "-".join(str(layer) for layer in dict.fromkeys(row.layers))
    shape = " × ".join(str(size) for size in row.shape) or "one number"
    return row.name, str(row.tensors), layers, f"{row.dtype} {shape}"


TITLES = ("tensors", "count", "layers", "shape")


def grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by what they get, in order of first appearance."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(treatment(row), []).append(row)
    return groups


def text(explanation: Explanation) -> str:
    """The explanation as plain text."""
    lines = headlines(explanation)
    for said, rows in grouped(explanation.rows).items():
        lines.append(f"\n{said}")
        for row in rows:
            name, count, layers, shape = cells(row)
            many = f" ({count} tensors{f', layers {layers}' if layers else ''})" if row.tensors > 1 else ""
            lines.append(f"  {name}{many}: {shape}")
    return "\n".join([*lines, *(f"warning: {warning}" for warning in explanation.warnings)])


def render(explanation: Explanation) -> RenderableType:
    """The explanation for a terminal: tables between headlines and warnings."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    # Text everywhere, because names of tensors may hold what looks like markup.
    parts: list[RenderableType] = [Text(line) for line in headlines(explanation)]
    for said, rows in grouped(explanation.rows).items():
        whole = any("whole tensor" in row.execution for row in rows)
        table = Table(show_edge=False)
        for title in TITLES:
            table.add_column(title, justify="right" if title == "count" else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in cells(row)))
        parts += [Text(), Text(said, style="bold yellow" if whole else "bold"), table]
    return Group(*parts, *(Text(f"warning: {warning}", style="yellow") for warning in explanation.warnings))
