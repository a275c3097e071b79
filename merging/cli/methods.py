"""`merging methods`: what there is to merge with, from the methods' own declarations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from merging.cli.options import json_option

if TYPE_CHECKING:
    from merging.methods.declare import Method
    from merging.methods.parameters import Parameter


_MARKDOWN_HEAD = """# Merge methods

Made from the methods' declarations by `merging methods --markdown`. `tau_i` is a task vector, fine-tuned minus base
model; arithmetic is in float32, sums over entries in float64, with one rounding at the end. *Reads* is how often every
input is read, *holds* what is in memory of each: blocks, rows, a matrix or a tensor. `docs/choosing.md` says which
method to take when, and shows what each reaches.
"""


@click.command()
@click.argument("name", required=False)
@click.option("--markdown", is_flag=True, help="Print the reference of all methods, or of NAME, as Markdown.")
@json_option
def methods(name: str | None, markdown: bool, as_json: bool) -> None:
    """List the merge methods, or explain the one called NAME.

    \b
    Examples:
      merging methods
      merging methods ties
    """
    from merging.methods.declare import all_methods, find_method

    chosen = [find_method(name)] if name else list(all_methods().values())
    if as_json:
        click.echo(json.dumps([_data(method) for method in chosen], indent=2))
    elif markdown:
        head = [] if name else [_MARKDOWN_HEAD, *_markdown_table(chosen)]
        click.echo("\n".join([*head, *(_markdown(method) for method in chosen)]).rstrip())
    elif name:
        click.echo(_explained(chosen[0]))
    else:
        _show_table(chosen)


def _data(method: Method) -> dict[str, Any]:
    from merging.methods.describe import cost, example, matrices

    return {
        "name": method.name,
        "aliases": list(method.aliases),
        "paper": method.paper,
        "summary": method.summary,
        "sees": method.needs.sees,
        "base_model": method.needs.base,
        "reach": method.needs.reach,
        "cost": cost(method),
        **({"matrices": matrices(method)} if matrices(method) else {}),
        "recipe": example(method),
        "parameters": [
            {
                "name": knob.name,
                "must_be": knob.kind.describe(),
                "per_model": knob.kind.per_model,
                "required": _required(knob),
                **({} if _required(knob) else {"default": knob.default}),
                "says": knob.says,
            }
            for knob in method.parameters.values()
        ],
    }


def _required(knob: Parameter) -> bool:
    from merging.methods.parameters import REQUIRED

    return knob.default is REQUIRED


def _facts(method: Method) -> str:
    sees = "task vectors" if method.needs.sees == "task_vectors" else "models"
    base = {"required": "needs a base model", "optional": "may use a base model", "unused": "needs no base model"}
    least, most = method.needs.inputs
    count = f"{least} or more" if most is None else f"{least}" if least == most else f"{least} to {most}"
    return f"sees {sees}; {base[method.needs.base]}; inputs: {count}; paper: {method.paper}"


def _knobs(method: Method) -> list[tuple[str, str, str, str]]:
    """Name, bounds, default and meaning of every parameter."""
    return [
        (
            knob.name,
            knob.kind.describe() + (" per model" if knob.kind.per_model else ""),
            "required" if _required(knob) else json.dumps(knob.default),
            knob.says,
        )
        for knob in method.parameters.values()
    ]


def _formula(method: Method) -> str:
    """The docstring without its example, and without the lines that explain parameters."""
    knobs = tuple(f"{name}: " for name in method.parameters)
    lines = method.theorem.split("\n>>> ")[0].splitlines()
    return "\n".join(line for line in lines if not line.startswith(knobs)).strip()


def _explained(method: Method) -> str:
    from merging.methods.describe import cost, example, matrices

    also = f" (also: {', '.join(method.aliases)})" if method.aliases else ""
    lines = [click.style(method.name, bold=True) + also, _facts(method), cost(method), "", _formula(method)]
    lines += ["", matrices(method)] if matrices(method) else []
    lines += ["", click.style("parameters", bold=True)] if method.parameters else []
    for name, bounds, default, says in _knobs(method):
        lines.append(f"  {name}: {bounds}; {'required' if default == 'required' else 'default ' + default}")
        lines += [f"    {says}"] if says else []
    lines += ["", click.style("recipe", bold=True), *(f"  {line}" for line in example(method).splitlines())]
    return "\n".join(lines)


def _markdown(method: Method) -> str:
    from merging.methods.describe import cost, example, matrices

    lines = [f"## {method.name}", ""]
    if method.aliases:
        lines += ["Also called " + ", ".join(f"`{alias}`" for alias in method.aliases) + ".", ""]
    told = f"{_facts(method)}; {cost(method)}."
    lines += [told[:1].upper() + told[1:], "", "```text", _formula(method), "```", ""]
    lines += [matrices(method), ""] if matrices(method) else []
    if method.parameters:
        lines += ["| parameter | must be | default | meaning |", "|---|---|---|---|"]
        lines += [f"| `{name}` | {bounds} | {default} | {says} |" for name, bounds, default, says in _knobs(method)]
        lines.append("")
    lines += ["```yaml", example(method), "```", ""]
    return "\n".join(lines)


def _markdown_table(chosen: list[Method]) -> list[str]:
    rows = [f"| [`{method.name}`](#{method.name}) | {' | '.join(_columns(method))} |" for method in chosen]
    return ["| method | sees | reads | holds | what it does |", "|---|---|---|---|---|", *rows, ""]


def _columns(method: Method) -> tuple[str, str, str, str]:
    """What a method sees, how often it reads, what it holds, and its first sentence."""
    from merging.methods.describe import readings

    also = f" (also: {', '.join(method.aliases)})" if method.aliases else ""
    least, most = readings(method)
    return (
        "changes" if method.needs.sees == "task_vectors" else "models",
        f"{least} ×" if least == most else f"{least}–{most} ×",
        method.needs.reach if method.needs.reach in ("row", "matrix", "tensor") else "block",
        method.summary + also,
    )


def _show_table(chosen: list[Method]) -> None:
    width = max(len(method.name) for method in chosen)
    click.echo(f"{'method'.ljust(width)}  sees     reads  holds   what it does")
    for method in chosen:
        sees, count, held, says = _columns(method)
        click.echo(f"{click.style(method.name.ljust(width), bold=True)}  {sees:7}  {count:5}  {held:6}  {says}")
    click.echo("\n`merging methods NAME` explains one: formula, parameters, defaults, cost, and a recipe.")
