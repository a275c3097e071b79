"""`merging methods`: what there is to merge with, from the methods' own declarations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from merging.cli.options import json_option

if TYPE_CHECKING:
    from merging.methods.declare import Method
    from merging.methods.parameters import Parameter


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
        click.echo("\n".join(_markdown(method) for method in chosen).rstrip())
    elif name:
        click.echo(_explained(chosen[0]))
    else:
        _show_table(chosen)


def _data(method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "aliases": list(method.aliases),
        "paper": method.paper,
        "summary": method.summary,
        "sees": method.needs.sees,
        "base_model": method.needs.base,
        "reach": method.needs.reach,
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
    also = f" (also: {', '.join(method.aliases)})" if method.aliases else ""
    lines = [click.style(method.name, bold=True) + also, _facts(method), "", _formula(method)]
    lines += ["", click.style("parameters", bold=True)] if method.parameters else []
    for name, bounds, default, says in _knobs(method):
        lines.append(f"  {name}: {bounds}; {'required' if default == 'required' else 'default ' + default}")
        lines += [f"    {says}"] if says else []
    return "\n".join(lines)


def _markdown(method: Method) -> str:
    lines = [f"## {method.name}", ""]
    if method.aliases:
        lines += ["Also called " + ", ".join(f"`{alias}`" for alias in method.aliases) + ".", ""]
    lines += [_facts(method)[:1].upper() + _facts(method)[1:] + ".", "", "```text", _formula(method), "```", ""]
    if method.parameters:
        lines += ["| parameter | must be | default | meaning |", "|---|---|---|---|"]
        lines += [f"| `{name}` | {bounds} | {default} | {says} |" for name, bounds, default, says in _knobs(method)]
        lines.append("")
    return "\n".join(lines)


def _show_table(chosen: list[Method]) -> None:
    width = max(len(method.name) for method in chosen)
    for method in chosen:
        also = f" (also: {', '.join(method.aliases)})" if method.aliases else ""
        click.echo(click.style(method.name.ljust(width), bold=True) + f"  {method.summary}{also}")
    click.echo("\n`merging methods NAME` explains one: formula, parameters, defaults.")
